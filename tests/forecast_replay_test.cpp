// Forecasts against what the committed campaigns measured: every row from the rows before it, as in a
// campaign.

#include <algorithm>
#include <cmath>
#include <fstream>

#include "harness/analysis/interval.h"
#include "harness/forecast/bytes.h"
#include "harness/forecast/rates.h"
#include "harness/registry.h"
#include "tests/catch.h"

using namespace attn;

namespace {

/// Ratios of forecast to measurement.
struct Replay {
  std::vector<double> times, bytes;
};

Replay replay(const std::string& folder) {
  std::ifstream file(folder + "/environment.json");
  Rates rates(roofs_from_json(nlohmann::json::parse(file).at("roofs")));
  Replay ratios;
  for (const ResultRow& row : read_results(folder + "/results.csv")) {
    const Variant* variant = linked_variant(row.variant);
    if (!variant || row.status != Status::ok) continue;
    const Problem problem = Problem::parse(row.problem);
    const int threads = static_cast<int>(row.threads);
    ratios.times.push_back(rates.predict(*variant, problem, threads).time_s.value() / *row.time_s_median);
    const auto growth = process_growth_bytes(*variant, problem, threads);
    if (growth && row.memory_process_peak_bytes) {
      ratios.bytes.push_back(static_cast<double>(*growth) /
                             static_cast<double>(*row.memory_process_peak_bytes));
    }
    rates.learn(row);
  }
  return ratios;
}

/// Median of |ln ratio|, as a factor.
double typical_error(std::vector<double> ratios) {
  for (double& ratio : ratios) ratio = std::abs(std::log(ratio));
  return std::exp(median(std::move(ratios)));
}

}  // namespace

TEST_CASE("forecasts of the committed campaigns") {
  for (const char* name : {"quick", "scaling-n", "scaling-h"}) {
    const Replay ratios = replay(std::string(ATTN_SOURCE_FOLDER) + "/results/" + name);
    INFO(name << ": " << ratios.times.size() << " times, median ratio " << median(ratios.times)
              << ", typical error " << typical_error(ratios.times) << "; " << ratios.bytes.size()
              << " memories, median ratio " << median(ratios.bytes) << ", typical error "
              << typical_error(ratios.bytes));
    REQUIRE(ratios.times.size() >= 40);
    REQUIRE(ratios.bytes.size() >= 40);
    CHECK(std::abs(median(ratios.times) - 1) < 0.1);
    CHECK(typical_error(ratios.times) < 1.3);
    CHECK(std::abs(median(ratios.bytes) - 1) < 0.1);
    CHECK(typical_error(ratios.bytes) < 1.1);
  }
}
