// attnbench roofs: the limits that a campaign measures before its first row.

#include <fmt/format.h>

#include <memory>
#include <vector>

#include "harness/cli/command.h"
#include "harness/measure/roofs.h"
#include "harness/run/device.h"

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

void print_gpu_line(const std::string& name, double value, const std::string& unit) {
  fmt::print("{:<28} {:>10}  {}\n", name, value > 0 ? fmt::format("{:.4g}", value) : "-", unit);
}

void print_gpu_table(const GpuRoofs& roofs) {
  fmt::print("\nGPU: {}\n", gpu_facts().description);
  print_gpu_line("bf16 product", roofs.gemm_bf16_flops_per_s * 1e-12, "TFLOP/s");
  print_gpu_line("f16 product", roofs.gemm_f16_flops_per_s * 1e-12, "TFLOP/s");
  print_gpu_line("tf32 product", roofs.gemm_tf32_flops_per_s * 1e-12, "TFLOP/s");
  print_gpu_line("float32 product", roofs.gemm_f32_flops_per_s * 1e-12, "TFLOP/s");
  print_gpu_line("multiply-adds, float32", roofs.fma_f32_flops_per_s * 1e-12, "TFLOP/s");
  print_gpu_line("exponentials, ex2.approx", roofs.ex2_approx_per_s * 1e-12, "10^12/s");
  print_gpu_line("exponentials, exp2f", roofs.exp2f_per_s * 1e-12, "10^12/s");
  print_gpu_line("read", roofs.read_bytes_per_s * 1e-9, "GB/s");
  print_gpu_line("copy (read + written)", roofs.copy_bytes_per_s * 1e-9, "GB/s");
  print_gpu_line("an empty kernel", roofs.launch_s * 1e6, "us");
}

void run_roofs(const RoofsArguments& arguments) {
  const Roofs roofs = measure_roofs(arguments.threads, true);
  if (arguments.format == "json") return fmt::print("{}\n", to_json(roofs).dump(2));
  print_table(roofs);
  if (roofs.gpu) print_gpu_table(*roofs.gpu);
}

void add_roofs(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand(
      "roofs",
      "Measures the roofs that results are held against: rates of float32 multiply-adds and of the kernels' "
      "exponential, the BLAS's products, read and copy bandwidth of each cache level and of memory; and "
      "those of the "
      "GPU, where there is one.");
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

ATTN_COMMAND(57, add_roofs);

}  // namespace
}  // namespace attn
