// attnbench roofs: the limits that a campaign measures before its first row.

#include <fmt/format.h>

#include <memory>
#include <vector>

#include "harness/cli/command.h"
#include "harness/measure/roofs.h"

namespace attn {
namespace {

struct RoofsArguments {
  std::string format = "text";
  std::vector<int> threads;
};

/// A line of the table: a number per thread count, in units of 10^9.
template <class Value>
void print_line(const std::string& name, const std::string& unit, const Roofs& roofs, const Value& value) {
  fmt::print("{:<28}", name);
  for (const auto& [threads, measured] : roofs.by_threads) {
    const double found = value(measured);
    fmt::print(" {:>10}", found > 0 ? fmt::format("{:.1f}", found * 1e-9) : "-");
  }
  fmt::print("  {}\n", unit);
}

void print_table(const Roofs& roofs) {
  fmt::print("{:<28}", fmt::format("threads ({})", roofs.target));
  for (const auto& [threads, measured] : roofs.by_threads) fmt::print(" {:>10}", threads);
  fmt::print("\n");
  print_line("multiply-adds, float32", "GFLOP/s", roofs, [](const auto& r) { return r.fma_f32_flops_per_s; });
  print_line("exponentials, float32", "10^9/s", roofs, [](const auto& r) { return r.exp_f32_per_s; });
  print_line("sgemm of 1024 cubed", "GFLOP/s", roofs, [](const auto& r) { return r.sgemm_flops_per_s; });
  const std::vector<LevelRoof>& levels = roofs.by_threads.begin()->second.levels;
  for (size_t k = 0; k < levels.size(); ++k) {
    print_line("read " + levels[k].level, "GB/s", roofs,
               [k](const auto& r) { return r.levels[k].read_bytes_per_s; });
  }
  for (size_t k = 0; k < levels.size(); ++k) {
    print_line("copy " + levels[k].level + " (read + written)", "GB/s", roofs,
               [k](const auto& r) { return r.levels[k].copy_bytes_per_s; });
  }
}

void run_roofs(const RoofsArguments& arguments) {
  const Roofs roofs = measure_roofs(arguments.threads, true);
  if (arguments.format == "json") return fmt::print("{}\n", to_json(roofs).dump(2));
  print_table(roofs);
}

void add_roofs(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand(
      "roofs",
      "Measures the roofs that results are held against: rates of float32 multiply-adds and of the kernels' "
      "exponential, the BLAS's products, read and copy bandwidth of each cache level and of memory.");
  auto arguments = std::make_shared<RoofsArguments>();
  command->add_option("--format", arguments->format, "How to print: text or json. Default: text.")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json"}));
  command
      ->add_option("--threads", arguments->threads,
                   "Numbers of CPU threads to measure with, besides 1 and every CPU.")
      ->type_name("COUNTS")
      ->delimiter(',')
      ->check(CLI::Range(1, 1024));
  command->callback([arguments] { run_roofs(*arguments); });
}

ATTN_COMMAND(60, add_roofs);

}  // namespace
}  // namespace attn
