#pragma once
// Do the 95 % intervals of the fitted exponents hold the truth? Simulated campaigns with known
// T = a + c x^b go through the same grouping, selection and fit as measured ones.

#include <cstdint>
#include <string>
#include <vector>

#include "harness/selftest/simulate.h"

namespace attn {

/// Coverage a 95 % interval may have. Exact quantities (bytes) must be right every time.
inline constexpr double kLeastCoverage = 0.92, kMostCoverage = 0.98;

struct CoverageScenario {
  std::string name;
  Axis axis = Axis::n;
  bool memory = false;  ///< bytes of workspace instead of times
  double exponent = 2;
  /// a over c x^b at the smallest x: drawn evenly between the two for every campaign.
  double offset_low = 0, offset_high = 0;
  double smallest_time_s = 5e-3;  ///< c x^b at the smallest x, within a factor of two
  std::vector<double> x;
  Noise noise;
  Stopping stopping;
  double knee_x = 0;  ///< from here on c x^b is knee_factor times as long; 0: nowhere
  double knee_factor = 1;
};
std::vector<CoverageScenario> coverage_scenarios();

struct CoverageResult {
  std::string name;
  int64_t trials = 0;
  double covered = 0;      ///< share of trials
  double with_offset = 0;  ///< share of trials where the offset model was chosen
  double width = 0;        ///< median width of the interval
  double bias = 0;         ///< median of the exponent minus the truth
  bool ok = false;
};

/// `number` keeps the random numbers of scenarios apart; `slack` widens the accepted range, for few trials.
CoverageResult run_scenario(const CoverageScenario& scenario, int64_t trials, uint64_t seed,
                            uint64_t number = 0, double slack = 0);
/// Every scenario, `trials` campaigns each; the same seed gives the same result.
std::vector<CoverageResult> run_coverage(int64_t trials, uint64_t seed, double slack = 0);
/// An aligned table and a last line. Returns whether every scenario is within the range.
bool print_coverage(const std::vector<CoverageResult>& results);

}  // namespace attn
