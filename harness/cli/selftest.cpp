// attnbench selftest: the harness tested by itself, one function a mode.

#include <fmt/format.h>

#include "harness/cli/command.h"
#include "harness/problem/error.h"
#include "harness/registry.h"
#include "harness/selftest/mutants.h"
#include "harness/selftest/random_problems.h"

namespace attn {
namespace {

struct SelftestArguments {
  bool mutants = false, list = false;
  int64_t problems = 200;
  uint64_t seed = 1;
  int threads = 2;
};

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
      fmt::print("{}SURVIVED: {}\n", text, mutant.excuse.empty() ? "no reason is known" : mutant.excuse);
    }
    fmt::print("{}: killed {} of {} mutants, {} of the {} of the study\n", to_text(dtype), killed, all,
               killed_in_study, all_in_study);
  }
  for (const std::string& alarm : score.false_alarms)
    fmt::print("FALSE ALARM: the kernel without an error: {}\n", alarm);
  fmt::print("the kernel without an error: {} runs, {} false alarms, error/bound {:.3f}\n",
             score.correct_runs, score.false_alarms.size(), score.correct_worst);
}

/// The check must reject wrong kernels and accept correct ones.
bool fails_mutants(const SelftestArguments& arguments) {
  const std::vector<Dtype> dtypes = {Dtype::f32, Dtype::bf16};
  const MutantScore score = score_mutants(dtypes, arguments.seed, arguments.threads);
  print_score(score, dtypes, arguments.list);
  const std::vector<const Variant*> variants = correct_variants();
  const RandomRun run =
      check_random_problems(variants, arguments.problems, arguments.seed, arguments.threads);
  for (const CheckFailure& failure : run.failures)
    fmt::print("FALSE ALARM: {}\n  rerun: {}\n", failure.what, failure.command);
  fmt::print(
      "{} correct variants on {} random problems: {} runs, {} false alarms, error/bound {:.3f} at {}\n",
      variants.size(), run.problems, run.runs, run.failures.size(), run.worst, run.worst_at);
  return !score.ok() || !run.failures.empty();
}

int run_selftest(const SelftestArguments& arguments) {
  if (!arguments.mutants) throw UsageError("selftest: say what to test: --mutants");
  const bool failed = fails_mutants(arguments);
  fmt::print("selftest {}\n", failed ? "failed" : "passed");
  return failed ? 1 : 0;
}

void add_selftest(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("selftest", "Tests the harness by itself.");
  auto arguments = std::make_shared<SelftestArguments>();
  command->add_flag(
      "--mutants", arguments->mutants,
      "Tests the check: it must reject a kernel with any of the planted errors, in float32 and bf16, and "
      "accept correct variants on random problems.");
  command->add_flag("--list", arguments->list, "With --mutants: what rejected each of them first.");
  command->add_option("--problems", arguments->problems, "With --mutants: number of random problems.")
      ->check(CLI::Range(0, 10'000'000))
      ->capture_default_str();
  command->add_option("--seed", arguments->seed, "Seed of inputs and random problems.")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "Threads.")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->callback([arguments, &exit_code] { exit_code = run_selftest(*arguments); });
}

ATTN_COMMAND(35, add_selftest);

}  // namespace
}  // namespace attn
