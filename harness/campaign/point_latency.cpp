#include "harness/campaign/point_latency.h"

#include <vector>

#include "harness/analysis/interval.h"

namespace attn {
namespace {

constexpr size_t kMostCalls = 40;  ///< of either kind
constexpr double kLatencyBudget_s = 0.04, kLongestCall_s = 0.002;

double latency_s(PointEntry& entry, LaunchMode launch) {
  const double seconds = entry.binding->latency_s(launch);
  entry.variant_s += seconds;
  return seconds;
}

/// Of the first replay, which is not counted. The row is right and timed by now: what fails here costs it
/// this number alone, unless it costs everyone the device.
bool can_be_replayed(PointEntry& entry) {
  try {
    latency_s(entry, LaunchMode::graph);
    return true;
  } catch (const std::exception&) {
    if (entry.api().lost()) throw;
    return false;
  }
}

Number median_or_none(const std::vector<double>& seconds) {
  return seconds.empty() ? Number{} : Number{median(seconds)};
}

}  // namespace

void measure_latency(PointEntry& entry) {
  std::vector<double> times_s, plain_s, replayed_s;
  for (const SampleRow& sample : entry.samples) times_s.push_back(sample.time_s);
  if (times_s.empty() || median(times_s) > kLongestCall_s) return;
  const bool replays = can_be_replayed(entry);
  latency_s(entry, LaunchMode::stream);
  for (double spent_s = 0; plain_s.size() < kMostCalls && spent_s < kLatencyBudget_s;) {
    spent_s += plain_s.emplace_back(latency_s(entry, LaunchMode::stream));
    if (replays) spent_s += replayed_s.emplace_back(latency_s(entry, LaunchMode::graph));
  }
  entry.row.latency_s_median = median_or_none(plain_s);
  entry.row.latency_graph_s_median = median_or_none(replayed_s);
}

}  // namespace attn
