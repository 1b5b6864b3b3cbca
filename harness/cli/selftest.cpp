// attnbench selftest: the harness held against known truth. One mode an option; each has its work in a file
// of harness/selftest/.

#include <fmt/format.h>

#include <memory>

#include "harness/cli/command.h"
#include "harness/problem/error.h"
#include "harness/selftest/aa.h"
#include "harness/selftest/checker.h"
#include "harness/selftest/coverage.h"

namespace attn {
namespace {

struct SelftestArguments {
  bool coverage = false;
  bool aa = false;
  bool aa_simulated = false;
  bool mutants = false;
  int64_t runs = 8;
  std::string variants;
  int64_t trials = 1000;
  CheckerTest checker;
  uint64_t seed = 1;
};

/// Each mode says whether it passed.
bool test_coverage(const SelftestArguments& arguments) {
  return print_coverage(run_coverage(arguments.trials, arguments.seed));
}

bool test_aa_simulated(const SelftestArguments& arguments) {
  return print_aa(simulate_aa(arguments.trials, arguments.seed));
}

bool test_aa(const SelftestArguments& arguments) {
  return print_aa(measure_aa(arguments.runs, arguments.variants));
}

bool test_mutants(const SelftestArguments& arguments) {
  CheckerTest test = arguments.checker;
  test.seed = arguments.seed;
  return test_checker(test);
}

int run_selftest(const SelftestArguments& arguments) {
  if (!arguments.coverage && !arguments.aa && !arguments.aa_simulated && !arguments.mutants) {
    throw UsageError("selftest: say what to test: --coverage, --aa, --aa-simulated or --mutants");
  }
  bool passed = true;
  if (arguments.coverage) passed = test_coverage(arguments) && passed;
  if (arguments.aa_simulated) passed = test_aa_simulated(arguments) && passed;
  if (arguments.mutants) passed = test_mutants(arguments) && passed;
  if (arguments.aa) passed = test_aa(arguments) && passed;
  fmt::print("selftest {}\n", passed ? "passed" : "failed");
  return passed ? 0 : 1;
}

void add_selftest(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("selftest", "Holds the harness itself against known truth.");
  auto arguments = std::make_shared<SelftestArguments>();
  command->add_flag(
      "--coverage", arguments->coverage,
      "Fit simulated campaigns with known exponents: the 95 % intervals must hold the truth in 92 to 98 "
      "% of them, in every scenario.");
  command->add_flag(
      "--aa", arguments->aa,
      "Measure a small campaign again and again and compare every run with every other: at most 5 % of "
      "the comparisons may call anything faster or slower.");
  command->add_flag("--aa-simulated", arguments->aa_simulated,
                    "The same with simulated campaigns under several kinds of noise.");
  command->add_option("--runs", arguments->runs, "Campaigns that --aa measures. Default: 8.")
      ->type_name("COUNT")
      ->check(CLI::Range(2, 1000));
  command
      ->add_option("--variants", arguments->variants, "Variants that --aa measures. Default: all on the CPU.")
      ->type_name("REGEX");
  command->add_option("--trials", arguments->trials, "Simulated campaigns of each scenario. Default: 1000.")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 1'000'000));
  command->add_flag(
      "--mutants", arguments->mutants,
      "Tests the check: it must reject a kernel with any of the planted errors, in float32 and bf16, and "
      "accept correct variants on random problems.");
  command->add_flag("--list", arguments->checker.list, "With --mutants: what rejected each of them first.");
  command
      ->add_option("--problems", arguments->checker.problems,
                   "With --mutants: random problems. Default: 200.")
      ->type_name("COUNT")
      ->check(CLI::Range(0, 10'000'000));
  command->add_option("--threads", arguments->checker.threads, "With --mutants: threads. Default: 2.")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 1024));
  command->add_option("--seed", arguments->seed, "Seed of simulations, inputs and problems. Default: 1.")
      ->type_name("NUMBER");
  command->callback([arguments, &exit_code] { exit_code = run_selftest(*arguments); });
}

ATTN_COMMAND(55, add_selftest);

}  // namespace
}  // namespace attn
