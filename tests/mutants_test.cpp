// The check must reject every planted error, and accept correct kernels.

#include <set>

#include "harness/registry.h"
#include "harness/selftest/mutants.h"
#include "harness/selftest/random_problems.h"
#include "tests/catch.h"

using namespace attn;

TEST_CASE("every mutant is killed and the correct kernel passes") {
  const MutantScore score = score_mutants({Dtype::f32, Dtype::bf16}, 1, 2);
  for (const std::string& alarm : score.false_alarms) FAIL_CHECK(alarm);
  for (const Mutant& mutant : score.mutants) {
    INFO(to_text(mutant.mutation) << " " << to_text(mutant.dtype));
    CHECK(mutant.killed());
  }
  CHECK(score.ok());
}

TEST_CASE("a survivor and a false alarm fail the score") {
  MutantScore score{.mutants = {{.mutation = Mutation::one_nan, .dtype = Dtype::f32, .killed_by = "NaN"}}};
  CHECK(score.ok());
  score.mutants.push_back({.mutation = Mutation::one_zero, .dtype = Dtype::f32});
  CHECK_FALSE(score.ok());
  score.mutants.pop_back();
  CHECK(score.ok());
  score.false_alarms.push_back("somewhere");
  CHECK_FALSE(score.ok());
}

TEST_CASE("the study's 29 mutants are all there, and no mutant is offered to the user") {
  int64_t studied = 0;
  std::set<std::string> names;
  for (Mutation mutation : all_mutations()) {
    studied += in_study(mutation);
    names.insert(to_text(mutation));
    CHECK(make_control(mutation)->info().family == "control");
  }
  CHECK(studied == 29);
  CHECK(names.size() == all_mutations().size());
  CHECK_FALSE(names.count("none"));
}

TEST_CASE("correct variants pass random problems, and a wrong one does not") {
  const auto wrong = make_control(Mutation::last_key_dropped);
  const RandomRun rejected = check_random_problems({wrong.get()}, 20, 1, 2);
  CHECK(rejected.failures.size() >= 10);
  const RandomRun run = check_random_problems(all_variants(), 60, 1, 2);
  CHECK(run.problems == 60);
  CHECK(run.runs >= 60);
  for (const CheckFailure& failure : run.failures) FAIL_CHECK(failure.what << "\n" << failure.command);
}

TEST_CASE("random problems depend on seed and number alone, and reach every field") {
  BlockFiles files;
  std::string all;
  for (int64_t number = 0; number < 400; ++number)
    all += random_problem(1, number, files).problem.text() + ";";
  CHECK(random_problem(1, 7, files).problem.text() == random_problem(1, 7, files).problem.text());
  CHECK(random_problem(1, 7, files).problem.text() != random_problem(2, 7, files).problem.text());
  for (const char* part :
       {"nk=0",       "dtype=bf16", "dtype=f16",         "pass=bwd",    "causal",     "topleft", "window:",
        "padding:",   "document:",  "blocks:",           "shaw:",       "shaw-keys:", "alibi",   "t5:",
        "t5-causal:", "rope:",      "rope-interleaved:", "scope=block", "scale=",     "softcap="}) {
    INFO(part);
    CHECK(all.find(part) != std::string::npos);
  }
}
