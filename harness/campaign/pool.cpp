#include "harness/campaign/pool.h"

#include <algorithm>
#include <numeric>
#include <optional>

#include "harness/analysis/processes.h"
#include "harness/measure/rounds.h"
#include "harness/problem/problem.h"
#include "harness/run/theory.h"

namespace attn {
namespace {

template <class T>
void keep_larger(std::optional<T>& kept, const std::optional<T>& other) {
  if (other && (!kept || *kept < *other)) kept = other;
}

std::optional<double> mean_of(const std::vector<Outcome>& outcomes, Number ResultRow::*member) {
  std::vector<double> values;
  for (const Outcome& outcome : outcomes) {
    if (outcome.row.*member) values.push_back(*(outcome.row.*member));
  }
  if (values.empty()) return std::nullopt;
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

ByProcess times_of(const std::vector<Outcome>& processes, bool hot) {
  ByProcess times;
  for (const Outcome& outcome : processes) {
    auto& process = times.emplace_back();
    for (const SampleRow& sample : outcome.samples) {
      if (sample.hot() == hot) process.push_back(sample.time_s);
    }
  }
  return times;
}

/// Those of time_s.
std::vector<TimedSample> timed_samples(const Outcome& outcome) {
  std::vector<TimedSample> samples;
  for (const SampleRow& row : outcome.samples) {
    if (!row.hot()) samples.push_back({row.round, row.time_s, row.clock_hz, row.throttled});
  }
  return samples;
}

ByProcess ratios_of(const std::vector<Outcome>& processes, const std::vector<Outcome>& baseline) {
  ByProcess ratios;
  for (size_t k = 0; k < std::min(processes.size(), baseline.size()); ++k) {
    ratios.push_back(ratios_by_round(timed_samples(processes[k]), timed_samples(baseline[k])));
  }
  return ratios;
}

std::string stop_of(const std::vector<Outcome>& processes, const ByProcess& times, const ByProcess& ratios,
                    double target) {
  const auto stopped_by = [&](Stop stop) {
    return std::any_of(processes.begin(), processes.end(),
                       [&](const Outcome& outcome) { return outcome.row.stop == to_text(stop); });
  };
  if (within_target(ratios, target)) return to_text(Stop::ratio);
  if (stopped_by(Stop::median) && within_target(times, target)) return to_text(Stop::median);
  return stopped_by(Stop::budget) ? to_text(Stop::budget) : "processes";
}

/// Outliers are those among samples of the same process and state of the cache.
void mark_outliers(std::vector<SampleRow>& samples, bool hot) {
  std::vector<double> times;
  for (const SampleRow& sample : samples) {
    if (sample.hot() == hot) times.push_back(sample.time_s);
  }
  const std::vector<bool> marks = find_outliers(times);
  size_t next = 0;
  for (SampleRow& sample : samples) {
    if (sample.hot() == hot) sample.outlier = marks[next++] ? "yes" : "no";
  }
}

void join_samples(Outcome& pooled, const std::vector<Outcome>& processes) {
  pooled.samples.clear();
  for (size_t process = 0; process < processes.size(); ++process) {
    std::vector<SampleRow> samples = processes[process].samples;
    for (const bool hot : {false, true}) mark_outliers(samples, hot);
    for (SampleRow& sample : samples) {
      sample.process = static_cast<int64_t>(process);
      pooled.samples.push_back(std::move(sample));
    }
  }
}

/// What the samples of time_s say besides the time.
void record_samples(Outcome& pooled) {
  double clock_sum = 0;
  int64_t clocks = 0, outliers = 0, told = 0, throttled = 0;
  for (const SampleRow& sample : pooled.samples) {
    if (sample.hot()) continue;
    outliers += sample.outlier == "yes";
    told += !sample.throttled.empty();
    throttled += !sample.throttled.empty() && sample.throttled != "no";
    if (!sample.clock_hz) continue;
    clock_sum += *sample.clock_hz;
    ++clocks;
  }
  pooled.row.outliers = outliers;
  if (told > 0) pooled.row.samples_throttled = throttled;
  if (clocks > 0) pooled.row.clock_hz_mean = clock_sum / static_cast<double>(clocks);
}

void record_times(ResultRow& row, const ByProcess& times) {
  const std::vector<double> all = join(times);
  row.time_s_median = median(all);
  row.time_s_min = *std::min_element(all.begin(), all.end());
  row.samples = static_cast<int64_t>(all.size());
  row.processes = static_cast<int64_t>(times.size());
  if (const Interval interval = interval_over_processes(times); interval.known()) {
    row.time_s_ci_low = interval.low;
    row.time_s_ci_high = interval.high;
  }
  const Deviations deviations = deviations_of(times);
  row.time_s_sd_within = deviations.within;
  row.time_s_sd_between = deviations.between;
}

void record_ratio(ResultRow& row, const ByProcess& ratios) {
  const std::vector<double> all = join(ratios);
  if (all.empty()) return;
  row.ratio_to_baseline = median(all);
  if (const Interval interval = interval_over_processes(ratios); interval.known()) {
    row.ratio_ci_low = interval.low;
    row.ratio_ci_high = interval.high;
  }
}

void record_hot_times(ResultRow& row, const ByProcess& times) {
  const std::vector<double> all = join(times);
  if (all.empty()) return;
  row.time_hot_s_median = median(all);
  row.samples_hot = static_cast<int64_t>(all.size());
  if (const Interval interval = interval_over_processes(times); interval.known()) {
    row.time_hot_s_ci_low = interval.low;
    row.time_hot_s_ci_high = interval.high;
  }
}

RoofLimits roofs_of(const Job& job, const ResultRow& row) {
  if (row.device == "cpu") return job.roofs;
  const auto found = job.gpu_roofs.find(row.variant);
  return found == job.gpu_roofs.end() ? RoofLimits{} : found->second;
}

void record_roof(ResultRow& row, const RoofLimits& roofs) {
  row.flops_per_s = *row.flops_useful / *row.time_s_median;
  const double exps = useful_exps(Problem::parse(row.problem));
  const auto limit = limit_of({*row.flops_useful, exps, *row.bytes_min, *row.bytes_min}, roofs);
  if (!limit) return;
  row.roof_fraction = limit->time_s / *row.time_s_median;
  row.bound = to_text(limit->bound);
}

}  // namespace

Outcome pool(const Job& job, const std::vector<Outcome>& processes, const std::vector<Outcome>& baseline) {
  Outcome pooled = processes.front();
  ResultRow& row = pooled.row;
  row.rounds = 0;
  for (const Outcome& outcome : processes) {
    keep_larger(row.error_rel_l2, outcome.row.error_rel_l2);
    keep_larger(row.error_max_abs, outcome.row.error_max_abs);
    keep_larger(row.error_bound, outcome.row.error_bound);
    keep_larger(row.memory_workspace_peak_bytes, outcome.row.memory_workspace_peak_bytes);
    keep_larger(row.memory_process_peak_bytes, outcome.row.memory_process_peak_bytes);
    *row.rounds += timed_samples(outcome).back().round + 1;
  }
  row.steal_fraction = mean_of(processes, &ResultRow::steal_fraction);
  row.cpu_pressure = mean_of(processes, &ResultRow::cpu_pressure);
  row.latency_s_median = mean_of(processes, &ResultRow::latency_s_median);
  row.latency_graph_s_median = mean_of(processes, &ResultRow::latency_graph_s_median);
  const ByProcess times = times_of(processes, false), ratios = ratios_of(processes, baseline);
  const bool is_baseline = row.variant == job.baseline;
  row.stop = stop_of(processes, times, is_baseline ? ByProcess{} : ratios, job.target);
  record_times(row, times);
  record_hot_times(row, times_of(processes, true));
  record_ratio(row, ratios);
  record_roof(row, roofs_of(job, row));
  join_samples(pooled, processes);
  record_samples(pooled);
  return pooled;
}

}  // namespace attn
