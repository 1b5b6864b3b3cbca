#include "harness/selftest/checker.h"

#include <fmt/format.h>

#include <vector>

#include "harness/registry.h"
#include "harness/selftest/mutants.h"
#include "harness/selftest/random_problems.h"

namespace attn {
namespace {

/// Every exact variant of the CPU: none of them may be rejected.
std::vector<const Variant*> correct_variants() {
  std::vector<const Variant*> variants = all_variants();
  std::erase_if(variants, [](const Variant* variant) {
    return variant->info().device != Device::cpu || variant->info().fidelity != Fidelity::exact;
  });
  return variants;
}

void print_score(const MutantScore& score, const std::vector<Dtype>& dtypes, bool list) {
  for (Dtype dtype : dtypes) {
    int64_t killed = 0, all = 0, killed_in_study = 0, all_in_study = 0;
    for (const Mutant& mutant : score.mutants) {
      if (mutant.dtype != dtype) continue;
      ++all;
      killed += mutant.killed();
      all_in_study += in_study(mutant.mutation);
      killed_in_study += mutant.killed() && in_study(mutant.mutation);
      const std::string text = fmt::format("{:<5}{:<34}", to_text(dtype), to_text(mutant.mutation));
      if (list && mutant.killed()) fmt::print("{}killed by {}\n", text, mutant.killed_by);
      if (mutant.killed()) continue;
      fmt::print("{}SURVIVED\n", text);
    }
    fmt::print("{}: killed {} of {} mutants, {} of the {} of the study\n", to_text(dtype), killed, all,
               killed_in_study, all_in_study);
  }
  for (const std::string& alarm : score.false_alarms)
    fmt::print("FALSE ALARM: the kernel without an error: {}\n", alarm);
  fmt::print("the kernel without an error: {} runs, {} false alarms, error/bound {:.3f}\n",
             score.correct_runs, score.false_alarms.size(), score.correct_worst);
}

}  // namespace

bool test_checker(const CheckerTest& test) {
  const std::vector<Dtype> dtypes = {Dtype::f32, Dtype::bf16};
  const MutantScore score = score_mutants(dtypes, test.seed, test.threads);
  print_score(score, dtypes, test.list);
  const std::vector<const Variant*> variants = correct_variants();
  const RandomRun run = check_random_problems(variants, test.problems, test.seed, test.threads);
  for (const CheckFailure& failure : run.failures)
    fmt::print("FALSE ALARM: {}\n  rerun: {}\n", failure.what, failure.command);
  fmt::print(
      "{} correct variants on {} random problems: {} runs, {} false alarms, error/bound {:.3f} at {}\n",
      variants.size(), run.problems, run.runs, run.failures.size(), run.worst, run.worst_at);
  return score.ok() && run.failures.empty();
}

}  // namespace attn
