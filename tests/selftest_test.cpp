// Short versions of attnbench selftest, and that it can fail.

#include "harness/selftest/aa.h"
#include "harness/selftest/coverage.h"
#include "tests/catch.h"

using namespace attn;

TEST_CASE("intervals of exponents cover the truth in every scenario") {
  // 200 trials know a share of 95 % to 3 standard deviations of 1.5 %.
  for (const CoverageResult& result : run_coverage(200, 1, 0.045)) {
    CAPTURE(result.name, result.covered, result.width, result.bias);
    CHECK(result.ok);
  }
}

TEST_CASE("a law that the fit does not know is found uncovered") {
  CoverageScenario bent;
  bent.name = "a step where no cache ends";
  bent.x = {1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288};
  bent.noise.between = 0.005;
  bent.knee_x = 2048;
  bent.knee_factor = 1.5;
  CHECK_FALSE(run_scenario(bent, 100, 1).ok);
}

TEST_CASE("simulations depend on their seed alone") {
  const CoverageScenario plain = coverage_scenarios().front();
  CHECK(run_scenario(plain, 20, 5).width == run_scenario(plain, 20, 5).width);
  CHECK(run_scenario(plain, 20, 5).width != run_scenario(plain, 20, 6).width);
}

TEST_CASE("compare raises few false alarms and finds a change") {
  const SimulatedAlarms alarms = simulate_aa(1000, 1);
  for (const FalseAlarms& scenario : alarms.without_change) {
    CAPTURE(scenario.name, scenario.alarmed_comparisons, scenario.alarmed_rows, scenario.rows);
    CHECK(scenario.comparisons == 1000);
    // 1000 trials know a share of 5 % to 3 standard deviations of 0.7 %.
    CHECK(scenario.share_of_comparisons() <= kFalseAlarms + 0.02);
  }
  CHECK(alarms.found >= kLeastFound);
}
