#include "harness/analysis/processes.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace attn {
namespace {

double mean_of(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

}  // namespace

std::vector<double> join(const ByProcess& samples) {
  std::vector<double> all;
  for (const auto& process : samples) all.insert(all.end(), process.begin(), process.end());
  return all;
}

Interval interval_over_processes(const ByProcess& samples) {
  Interval interval = median_interval(join(samples));
  if (!interval.known()) return interval;
  for (const auto& process : samples) {
    if (process.empty()) continue;
    interval.low = std::min(interval.low, median(process));
    interval.high = std::max(interval.high, median(process));
  }
  return interval;
}

bool within_target(const ByProcess& samples, double target) {
  const Interval interval = interval_over_processes(samples);
  const double middle = median(join(samples));
  return interval.known() && interval.low >= middle * (1 - target) && interval.high <= middle * (1 + target);
}

Deviations deviations_of(const ByProcess& samples) {
  double count = 0, squared_counts = 0, processes = 0, squares_within = 0, squares_between = 0;
  const std::vector<double> all = join(samples);
  for (const auto& process : samples) {
    if (process.empty()) continue;
    const auto size = static_cast<double>(process.size());
    const double mean = mean_of(process);
    for (double value : process) squares_within += (value - mean) * (value - mean);
    squares_between += size * (mean - mean_of(all)) * (mean - mean_of(all));
    count += size;
    squared_counts += size * size;
    ++processes;
  }
  Deviations deviations;
  if (count <= processes) return deviations;
  const double mean_square_within = squares_within / (count - processes);
  deviations.within = std::sqrt(mean_square_within);
  if (processes < 2) return deviations;
  const double usual_size = (count - squared_counts / count) / (processes - 1);
  const double variance = (squares_between / (processes - 1) - mean_square_within) / usual_size;
  deviations.between = std::sqrt(std::max(variance, 0.0));
  return deviations;
}

std::vector<bool> find_outliers(const std::vector<double>& samples) {
  std::vector<bool> outliers(samples.size());
  if (median_rank(static_cast<int64_t>(samples.size())) == 0) return outliers;
  const double low = quantile(samples, 0.25), high = quantile(samples, 0.75), reach = 3 * (high - low);
  for (size_t k = 0; k < samples.size(); ++k) {
    outliers[k] = samples[k] < low - reach || samples[k] > high + reach;
  }
  return outliers;
}

}  // namespace attn
