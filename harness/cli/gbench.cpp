// attnbench gbench: the variants as plain Google Benchmark benchmarks, with all of its own options.

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <map>
#include <memory>

#include "harness/cli/command.h"
#include "harness/measure/environment.h"
#include "harness/problem/error.h"
#include "harness/registry.h"
#include "harness/run/binding.h"
#include "harness/run/theory.h"

namespace attn {
namespace {

struct GbenchArguments {
  std::vector<std::string> problems;
  std::string variants = ".";
  int threads = 0;
};

std::vector<std::string> usual_problems() {
  std::vector<std::string> texts;
  for (const char* mask : {"none", "causal", "causal+window:255:0"}) {
    for (int n : {256, 1024}) texts.push_back(fmt::format("hq=8,nq={},d=64,mask={}", n, mask));
  }
  return texts;
}

/// One variant at one problem; inputs are made when it runs, not when it is registered.
void measure(benchmark::State& state, const Variant& variant, const Problem& problem, int threads) {
  const Inputs<float> inputs = make_inputs(problem, Fill::normal, 1);
  Binding binding(variant, problem, inputs, {.threads = threads});
  binding.run();
  binding.synchronize();
  for (auto _ : state) state.SetIterationTime(binding.time_s(1));
  using benchmark::Counter;
  state.counters["flops_per_s"] = Counter(useful_flops(problem), Counter::kIsIterationInvariantRate);
  state.counters["workspace_bytes"] = static_cast<double>(binding.footprint().workspace_planned);
}

/// Arguments that CLI11 did not know: options of Google Benchmark, and nothing else.
void initialize_benchmark(const std::vector<std::string>& extras) {
  // Google Benchmark keeps the first of them as the name it reports.
  static std::vector<std::string> words = {"attnbench gbench"};
  for (const std::string& extra : extras) {
    if (!extra.starts_with("--benchmark_") && extra != "--v" && !extra.starts_with("--v=")) {
      throw UsageError(fmt::format(
          "gbench: '{}' is unknown: use --problem, --variants, --threads or --benchmark_...", extra));
    }
    words.push_back(extra);
  }
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  int argc = static_cast<int>(argv.size());
  argv.push_back(nullptr);
  benchmark::Initialize(&argc, argv.data());
  if (argc > 1) throw UsageError(fmt::format("gbench: Google Benchmark does not know '{}'", argv[1]));
}

void run_gbench(GbenchArguments arguments, const std::vector<std::string>& extras) {
  const int threads = arguments.threads > 0 ? arguments.threads : available_threads();
  if (arguments.problems.empty()) arguments.problems = usual_problems();
  for (const std::string& text : arguments.problems) {
    const Problem problem = Problem::parse(text);
    for (const Variant* variant : select_variants(arguments.variants)) {
      if (!support_of(*variant, problem)) continue;
      const std::string name = fmt::format("{}/{}", variant->info().name, problem.text());
      benchmark::RegisterBenchmark(name.c_str(), [variant, problem, threads](benchmark::State& state) {
        measure(state, *variant, problem, threads);
      })->UseManualTime();
    }
  }
  initialize_benchmark(extras);
  benchmark::AddCustomContext("threads", fmt::format("{}", threads));
  benchmark::AddCustomContext("commit", build_commit());
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
}

void add_gbench(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("gbench",
                                         "Runs the variants as Google Benchmark benchmarks, unchecked; every "
                                         "--benchmark_... option is passed on, such as "
                                         "--benchmark_filter=REGEX and --benchmark_format=json.");
  auto arguments = std::make_shared<GbenchArguments>();
  command->allow_extras();
  command
      ->add_option("--problem", arguments->problems,
                   "Problems in canonical text. Default: six with n of 256 and 1024 and three masks.")
      ->type_name("TEXT");
  command->add_option("--variants", arguments->variants, "Only variants whose name or tag contains a match.")
      ->type_name("REGEX");
  command->add_option("--threads", arguments->threads, "Number of CPU threads. Default: every CPU.")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 1024));
  command->callback([arguments, command] { run_gbench(*arguments, command->remaining()); });
}

ATTN_COMMAND(80, add_gbench);

}  // namespace
}  // namespace attn
