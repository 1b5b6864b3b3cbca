// attnbench check: every variant against the truth, and the properties of attention.

#include <fmt/format.h>

#include <cstdio>

#include "harness/cli/command.h"
#include "harness/oracle/check.h"
#include "harness/oracle/properties.h"
#include "harness/problem/error.h"
#include "harness/registry.h"

namespace attn {
namespace {

struct CheckArguments {
  std::string variants = ".";
  std::string problem, fill, dtype, launch = "stream", format = "table";
  uint64_t seed = 1;
  int threads = 2;
  bool quick = false;

  bool single() const { return !problem.empty() || !fill.empty(); }
  bool csv() const { return format == "csv"; }
};

CheckPlan plan_from(const CheckArguments& arguments, BlockFiles& files) {
  const SuiteSize size = arguments.quick ? SuiteSize::quick : SuiteSize::full;
  CheckPlan plan{.variants = select_variants(arguments.variants),
                 .seed = arguments.seed,
                 .launch = parse_launch(arguments.launch),
                 .threads = arguments.threads};
  if (arguments.problem.empty()) {
    plan.cases = check_cases(size, files);
  } else {
    plan.cases = {{Problem::parse(arguments.problem)},
                  {Problem::parse(arguments.problem), Layout::head_major}};
  }
  if (!arguments.dtype.empty()) {
    for (Case& checked : plan.cases) {
      if (checked.problem.scope == Scope::core) checked.problem.dtype = parse_dtype(arguments.dtype);
    }
  }
  if (plan.launch == LaunchMode::graph && !any_of_gpu(plan.variants)) throw UsageError(kGraphsNeedGpu);
  plan.fills = arguments.fill.empty() ? check_fills(size) : std::vector{parse_fill(arguments.fill)};
  return plan;
}

const char* repeatable(const VariantReport& report) {
  if (report.cases == 0) return "";
  return report.deterministic ? "yes" : "no";
}

void print_csv(const std::vector<VariantReport>& reports) {
  fmt::print("variant,cases,unsupported,failures,deterministic,worst_error_over_bound,worst_at\n");
  for (const VariantReport& r : reports) {
    fmt::print("{},{},{},{},{},{:.6g},\"{}\"\n", r.variant, r.cases, r.unsupported, r.failures.size(),
               repeatable(r), r.worst, r.worst_at);
  }
}

void print_table(const std::vector<VariantReport>& reports) {
  fmt::print("{:<26}{:>7}{:>13}{:>10}{:>12}{:>13}  at\n", "variant", "cases", "unsupported", "failures",
             "repeatable", "error/bound");
  for (const VariantReport& r : reports) {
    fmt::print("{:<26}{:>7}{:>13}{:>10}{:>12}{:>13.3f}  {}\n", r.variant, r.cases, r.unsupported,
               r.failures.size(), repeatable(r), r.worst, r.worst_at);
  }
}

/// Failures of one variant beyond the first few are counted, not listed.
bool print_failures(const std::vector<VariantReport>& reports, std::FILE* to) {
  constexpr size_t kListed = 10;
  bool any = false;
  for (const VariantReport& report : reports) {
    for (size_t f = 0; f < report.failures.size() && f < kListed; ++f) {
      fmt::print(to, "FAILED {}\n  rerun: {}\n", report.failures[f].what, report.failures[f].command);
    }
    if (report.failures.size() > kListed) {
      fmt::print(to, "FAILED {}: {} more\n", report.variant, report.failures.size() - kListed);
    }
    any = any || !report.failures.empty();
  }
  return any;
}

/// With `listed` every property has a line; failures always have.
bool print_properties(const std::vector<PropertyReport>& reports, bool listed) {
  int64_t runs = 0;
  size_t failures = 0;
  for (const PropertyReport& report : reports) {
    runs += report.runs;
    failures += report.failures.size();
    if (listed) {
      fmt::print("{:<54}{:>5} runs{:>5} unsupported{:>5} failures\n", report.property, report.runs,
                 report.unsupported, report.failures.size());
    }
    for (const std::string& failure : report.failures)
      fmt::print("FAILED {}: {}\n", report.property, failure);
  }
  fmt::print("{} properties, {} runs, {} failures\n", reports.size(), runs, failures);
  return failures > 0;
}

bool run_check(const CheckArguments& arguments) {
  BlockFiles files;
  const CheckPlan plan = plan_from(arguments, files);
  const std::vector<VariantReport> reports = check(plan);
  if (arguments.csv()) {
    print_csv(reports);
  } else {
    print_table(reports);
  }
  bool failed = print_failures(reports, arguments.csv() ? stderr : stdout);
  if (failed) files.keep();
  if (arguments.single() || arguments.csv()) return failed;
  fmt::print("\n");
  failed =
      print_properties(check_properties(plan.variants, arguments.seed, 1, plan.launch), !arguments.quick) ||
      failed;
  fmt::print("{}\n", failed ? "check failed" : "check passed");
  return failed;
}

void add_check(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("check", "Checks every variant against the float64 oracle.");
  auto arguments = std::make_shared<CheckArguments>();
  command->add_option("--variants", arguments->variants, "Only variants whose name or tag contains a match.");
  command->add_option("--problem", arguments->problem, "Check this problem alone, in both layouts.");
  command->add_option(
      "--fill", arguments->fill,
      "Inputs: normal, uniform, flat, peaked, integers, ones, overflow or late_max. Default: all.");
  command
      ->add_option(
          "--dtype", arguments->dtype,
          "Store the tensors of every problem like this: f32, bf16 or f16. Default: f32, and some problems "
          "in each of the others.")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}));
  command
      ->add_option("--launch", arguments->launch,
                   "How calls of a GPU variant are made: stream enqueues them, graph replays a CUDA graph of "
                   "one. What does not support graphs counts as unsupported, what cannot be captured fails.")
      ->type_name("MODE")
      ->capture_default_str();
  command->add_option("--seed", arguments->seed, "Seed of the inputs.")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command->add_option("--threads", arguments->threads, "Runs use one thread and this many.")
      ->check(CLI::Range(1, 1024))
      ->capture_default_str();
  command->add_flag("--quick", arguments->quick, "A fifth of the problems, four of the fills.");
  command->add_option("--format", arguments->format, "How to print: table or csv.")
      ->check(CLI::IsMember({"table", "csv"}))
      ->capture_default_str();
  command->callback([arguments, &exit_code] { exit_code = run_check(*arguments) ? 1 : 0; });
}

ATTN_COMMAND(30, add_check);

}  // namespace
}  // namespace attn
