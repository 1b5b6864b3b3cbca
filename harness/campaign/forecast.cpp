#include "harness/campaign/forecast.h"

#include <algorithm>

#include "harness/measure/rounds.h"
#include "harness/oracle/oracle.h"
#include "harness/run/binding.h"
#include "harness/run/theory.h"

namespace attn {
namespace {

/// An interval exists from 6 samples on; the median row of the committed campaigns has 20.
constexpr double kFewestSamples = 6, kUsualSamples = 20;
/// Checks, memory pass, warm-up and verification run the variant this often beside the samples, in every
/// process.
constexpr double kOtherRuns = 6;
constexpr double kOraclePairs_per_s = 25e6;  // of one thread, see TruthOptions
constexpr double kStart_s = 0.1;             // of a worker

}  // namespace

RowForecast forecast_row(const PlanPoint& point, const Variant& variant, double budget_s, int processes,
                         const Rates& rates, LaunchMode launch) {
  RowForecast row;
  if (!point.skipped.empty()) {
    row.refusal = "skipped: " + point.skipped;
  } else if (const Support support = support_of(variant, point.problem, launch); !support) {
    row.refusal = "unsupported: " + support.reason;
  }
  if (!row.refusal.empty()) return row;
  row.bytes = shared_bytes(point.problem) + variant_bytes(variant, point.problem, point.threads);
  row.call = rates.predict(variant, point.problem, point.threads);
  const double call_s = row.call.time_s.value_or(0);
  const double other_s = processes * kOtherRuns * call_s, sample_s = std::max(call_s, shortest_sample_s());
  row.least_s = other_s + std::min(budget_s, kFewestSamples * sample_s);
  row.expected_s = other_s + std::min(budget_s, kUsualSamples * sample_s);
  row.most_s = other_s + budget_s;
  return row;
}

double expected_row_s(const PlanPoint& point, const Variant& variant, const CampaignOptions& options,
                      const Rates& rates) {
  const RowForecast row =
      forecast_row(point, variant, options.budget_s, options.processes, rates, options.launch);
  if (!row.refusal.empty() || row.bytes > options.memory_limit_bytes) return 0;
  return row.expected_s + options.processes * shared_s(point) / static_cast<double>(point.variants.size());
}

double shared_s(const PlanPoint& point) {
  const TruthOptions options;
  const double pairs = std::min(useful_exps(point.problem), static_cast<double>(options.max_pairs));
  return kStart_s + pairs / (kOraclePairs_per_s * point.threads);
}

}  // namespace attn
