#include "harness/selftest/aa.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace attn {
namespace {

struct AaScenario {
  std::string name;
  Noise noise;
  double session = 0;  ///< sd of ln time of a whole campaign
  double change = 0;   ///< ln of how much slower one variant is in the second campaign
};

std::vector<AaScenario> scenarios() {
  Noise rough;
  rough.within = 0.065;
  rough.slow_share = 0.15;
  rough.between = 0.05;
  Noise neighbours;
  neighbours.slow_processes = 0.05;
  Noise calm;
  calm.within = 0.005;
  calm.slow_share = 0.005;
  calm.between = 0.003;
  return {{"noise of results/scaling-n", {}, 0.005},
          {"rough: worst tenth of its points", rough, 0.01},
          {"5 % of processes disturbed", neighbours, 0.005},
          {"calm machine", calm, 0.002},
          {"sessions differ by 10 %", {}, 0.1},
          {"one variant 15 % slower", {}, 0.005, std::log(1.15)}};
}

/// Three variants at eight lengths; those of one campaign share its session.
CampaignData simulate_campaign(const AaScenario& scenario, double change, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  const double session = scenario.session * normal(random);
  CampaignData data;
  for (const auto& [variant, rate] :
       {std::pair("fused/cpu", 2e-10), {"sparse/cpu", 3e-10}, {"stored/cpu", 8e-10}}) {
    for (double n = 256; n <= 3072; n = n < 2048 ? n * 1.5 : n + 1024) {
      const double time_s = (rate * n * n + 1e-4) * std::exp(session + change);
      SimulatedCampaign one;
      one.add(simulate_row(variant, Axis::n, n, 2),
              simulate_samples(time_s, scenario.noise, {.budget_s = 1}, random));
      data.rows.push_back(one.rows.front());
      data.samples.merge(one.samples);
    }
    change = 0;  // the first variant's alone
  }
  return data;
}

bool found_change(const Comparison& comparison) {
  return std::any_of(comparison.rows.begin(), comparison.rows.end(), [](const ComparedRow& row) {
    return row.variant == "fused/cpu" && row.verdict == "slower";
  });
}

bool few(const FalseAlarms& alarms) { return alarms.share_of_comparisons() <= kFalseAlarms; }

void print_line(const FalseAlarms& alarms) {
  fmt::print("{:<36} {:>5} of {:>5} comparisons ({:.1f} %), {:>5} of {:>6} rows ({:.2f} %){}\n", alarms.name,
             alarms.alarmed_comparisons, alarms.comparisons, 100 * alarms.share_of_comparisons(),
             alarms.alarmed_rows, alarms.rows, 100 * alarms.share_of_rows(), few(alarms) ? "" : "  too many");
}

}  // namespace

double FalseAlarms::share_of_comparisons() const {
  return static_cast<double>(alarmed_comparisons) / static_cast<double>(std::max<int64_t>(comparisons, 1));
}
double FalseAlarms::share_of_rows() const {
  return static_cast<double>(alarmed_rows) / static_cast<double>(std::max<int64_t>(rows, 1));
}

void count_alarms(FalseAlarms& alarms, const Comparison& comparison) {
  int64_t alarmed = 0;
  for (const ComparedRow& row : comparison.rows)
    alarmed += row.verdict == "faster" || row.verdict == "slower";
  ++alarms.comparisons;
  alarms.rows += static_cast<int64_t>(comparison.rows.size());
  alarms.alarmed_comparisons += alarmed > 0;
  alarms.alarmed_rows += alarmed;
}

SimulatedAlarms simulate_aa(int64_t trials, uint64_t seed) {
  SimulatedAlarms result;
  const std::vector<AaScenario> all = scenarios();
  for (size_t s = 0; s < all.size(); ++s) {
    const AaScenario& scenario = all[s];
    FalseAlarms alarms{.name = scenario.name};
    int64_t found = 0;
#pragma omp parallel for schedule(dynamic)
    for (int64_t k = 0; k < trials; ++k) {
      std::mt19937_64 random = trial_random(seed, s, static_cast<uint64_t>(k));
      const CampaignData a = simulate_campaign(scenario, 0, random);
      const CampaignData b = simulate_campaign(scenario, scenario.change, random);
      const Comparison comparison = compare_campaigns(a, b, kAaThreshold);
#pragma omp critical
      {
        count_alarms(alarms, comparison);
        found += found_change(comparison);
      }
    }
    if (scenario.change == 0) {
      result.without_change.push_back(alarms);
    } else {
      result.found = static_cast<double>(found) / static_cast<double>(trials);
    }
  }
  return result;
}

bool print_aa(const SimulatedAlarms& alarms) {
  fmt::print("false alarms of simulated comparisons without a change, at most {:.0f} %:\n",
             100 * kFalseAlarms);
  bool ok = true;
  for (const FalseAlarms& scenario : alarms.without_change) {
    print_line(scenario);
    ok = ok && few(scenario);
  }
  const bool found = alarms.found >= kLeastFound;
  fmt::print("a variant 15 % slower is found in {:.1f} % (at least {:.0f} %){}\n", 100 * alarms.found,
             100 * kLeastFound, found ? "" : "  too few");
  return ok && found;
}

bool print_aa(const FalseAlarms& alarms) {
  fmt::print("false alarms of this build against itself, at most {:.0f} %:\n", 100 * kFalseAlarms);
  print_line(alarms);
  return few(alarms);
}

}  // namespace attn
