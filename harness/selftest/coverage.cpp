#include "harness/selftest/coverage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/analysis/fit.h"

namespace attn {
namespace {

std::vector<double> doubling(double from, double to, bool halves = false) {
  std::vector<double> x;
  for (double value = from; value <= to; value *= 2) {
    x.push_back(value);
    if (halves && value * 1.5 <= to) x.push_back(value * 1.5);
  }
  return x;
}

struct TrueLaw {
  double offset, coefficient;
};

TrueLaw draw_law(const CoverageScenario& scenario, std::mt19937_64& random) {
  std::uniform_real_distribution<double> share(scenario.offset_low, scenario.offset_high), octaves(-0.5, 0.5);
  const double work = scenario.smallest_time_s * std::exp2(octaves(random));
  return {share(random) * work, work / std::pow(scenario.x.front(), scenario.exponent)};
}

SimulatedCampaign simulate(const CoverageScenario& scenario, std::mt19937_64& random) {
  const TrueLaw truth = draw_law(scenario, random);
  SimulatedCampaign campaign;
  for (const double x : scenario.x) {
    ResultRow row = simulate_row("simulated/cpu", scenario.axis, x, scenario.exponent);
    double work = truth.coefficient * std::pow(x, scenario.exponent);
    if (scenario.memory) {
      const double bytes = 1e9 * (truth.offset + work);
      row.memory_workspace_planned_bytes = row.memory_workspace_peak_bytes = std::llround(bytes);
    }
    if (scenario.knee_x > 0 && x >= scenario.knee_x) work *= scenario.knee_factor;
    campaign.add(std::move(row),
                 simulate_samples(truth.offset + work, scenario.noise, scenario.stopping, random));
  }
  return campaign;
}

struct Trial {
  bool covered = false, with_offset = false;
  double width = 0, error = 0;
};

Trial run_trial(const CoverageScenario& scenario, std::mt19937_64 random) {
  const SimulatedCampaign campaign = simulate(scenario, random);
  const std::vector<Series> sweeps = group_series(
      campaign.rows, campaign.samples, {{2, {{"L2", 2097152}, {"L3", 33554432}, {"DRAM", 2.5e10}}}});
  const auto on_axis = std::find_if(sweeps.begin(), sweeps.end(),
                                    [&](const Series& series) { return series.axis == scenario.axis; });
  const FitRow fit = fit_series(*on_axis, scenario.memory ? Quantity::workspace : Quantity::time);
  const double slack = scenario.memory ? kExactTolerance : 0;
  Trial trial;
  if (!fit.exponent_ci_low) return trial;
  trial.covered =
      *fit.exponent_ci_low - slack <= scenario.exponent && scenario.exponent <= *fit.exponent_ci_high + slack;
  trial.with_offset = fit.model == "offset_power";
  trial.width = *fit.exponent_ci_high - *fit.exponent_ci_low;
  trial.error = *fit.exponent - scenario.exponent;
  return trial;
}

CoverageResult summarise(const CoverageScenario& scenario, const std::vector<Trial>& trials, double slack) {
  CoverageResult result;
  result.name = scenario.name;
  result.trials = static_cast<int64_t>(trials.size());
  std::vector<double> widths, errors;
  for (const Trial& trial : trials) {
    result.covered += trial.covered;
    result.with_offset += trial.with_offset;
    widths.push_back(trial.width);
    errors.push_back(trial.error);
  }
  result.covered /= static_cast<double>(trials.size());
  result.with_offset /= static_cast<double>(trials.size());
  result.width = median(widths);
  result.bias = median(errors);
  result.ok = scenario.memory
                  ? result.covered == 1
                  : result.covered >= kLeastCoverage - slack && result.covered <= kMostCoverage + slack;
  return result;
}

}  // namespace

std::vector<CoverageScenario> coverage_scenarios() {
  const std::vector<double> long_sweep = doubling(1024, 12288, true);
  Noise rough;  // the worst tenth of the measured points
  rough.within = 0.065;
  rough.slow_share = 0.15;
  rough.between = 0.05;
  Noise calm;  // a dedicated machine
  calm.within = 0.005;
  calm.slow_share = 0.005;
  calm.between = 0.003;
  return {
      {.name = "n^2, 8 points", .x = long_sweep},
      {.name = "n^2, 5 points", .x = doubling(512, 8192)},
      {.name = "n^2, 3 points", .x = doubling(1024, 4096)},
      {.name = "n^2, calm machine", .x = long_sweep, .noise = calm},
      {.name = "n^2, rough machine", .x = long_sweep, .noise = rough},
      {.name = "n^2, ratio known at once", .x = long_sweep, .stopping = {.target = 1}},
      {.name = "n^2, one process", .x = long_sweep, .stopping = {.processes = 1}},
      {.name = "n^1, 8 points", .exponent = 1, .x = long_sweep},
      {.name = "a <= 10 % + n^2, 8 points", .offset_high = 0.1, .x = long_sweep},
      {.name = "a <= 10 % + n^2, calm", .offset_high = 0.1, .x = long_sweep, .noise = calm},
      {.name = "a = 0.1 to 1 + n^2, 8 points", .offset_low = 0.1, .offset_high = 1, .x = long_sweep},
      {.name = "a = 1 to 30 + n^2, 13 points",
       .offset_low = 1,
       .offset_high = 30,
       .smallest_time_s = 3e-4,
       .x = doubling(128, 8192, true)},
      {.name = "a + n^2 from the floor on",
       .offset_low = 0.5,
       .offset_high = 4,
       .smallest_time_s = 4e-6,
       .x = doubling(64, 8192)},
      {.name = "n^2, knee at a cache", .x = long_sweep, .knee_x = 4096, .knee_factor = 1.4},
      {.name = "d^1, 7 points", .axis = Axis::d, .exponent = 1, .x = {16, 24, 32, 48, 64, 96, 128}},
      {.name = "a = 0.5 to 2 + d^1, 9 points",
       .axis = Axis::d,
       .exponent = 1,
       .offset_low = 0.5,
       .offset_high = 2,
       .x = {16, 24, 32, 48, 64, 96, 128, 192, 256}},
      {.name = "h^0.1 at fixed width",
       .axis = Axis::h_fixed_width,
       .exponent = 0.1,
       .x = {1, 2, 4, 8, 16, 32, 64}},
      {.name = "h^1 at fixed head",
       .axis = Axis::h_fixed_head,
       .exponent = 1,
       .x = {1, 2, 3, 4, 6, 8, 12, 16}},
      {.name = "memory: a + n^1", .memory = true, .exponent = 1, .offset_high = 3, .x = doubling(128, 8192)},
      {.name = "memory: a + n^2", .memory = true, .offset_high = 3, .x = doubling(128, 8192)},
  };
}

CoverageResult run_scenario(const CoverageScenario& scenario, int64_t trials, uint64_t seed, uint64_t number,
                            double slack) {
  std::vector<Trial> done(static_cast<size_t>(trials));
#pragma omp parallel for schedule(dynamic)
  for (size_t k = 0; k < done.size(); ++k) done[k] = run_trial(scenario, trial_random(seed, number, k));
  return summarise(scenario, done, slack);
}

std::vector<CoverageResult> run_coverage(int64_t trials, uint64_t seed, double slack) {
  std::vector<CoverageResult> results;
  for (const CoverageScenario& scenario : coverage_scenarios()) {
    results.push_back(run_scenario(scenario, trials, seed, results.size(), slack));
  }
  return results;
}

bool print_coverage(const std::vector<CoverageResult>& results) {
  fmt::print("{:<32} {:>7} {:>9} {:>9} {:>9} {:>8}\n", "scenario", "trials", "covered", "offset", "width",
             "bias");
  bool ok = true;
  for (const CoverageResult& result : results) {
    fmt::print("{:<32} {:>7} {:>7.1f} % {:>7.1f} % {:>9.4f} {:>8.4f}{}\n", result.name, result.trials,
               100 * result.covered, 100 * result.with_offset, result.width, result.bias,
               result.ok ? "" : "  outside");
    ok = ok && result.ok;
  }
  return ok;
}

}  // namespace attn
