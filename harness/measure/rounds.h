#pragma once
// Timing of several cases against each other: interleaved rounds in random order through Google Benchmark,
// until every case's median is known well enough or has used its budget.
//
// A sample is a batch of calls long enough for the clock; its time is that of one call. A case leaves the
// rounds when the 95 % interval of its median is within 2 % on both sides (at least 6 samples: fewer have no
// such interval), or when its budget is spent. The baseline stays while others run, so that ratios are paired
// by round.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "harness/analysis/interval.h"

namespace attn {

struct TimedCase {
  std::string name;
  /// Seconds for `calls` calls back to back, on the clock of the case's device.
  std::function<double(int64_t calls)> time_s;
};

struct TimedSample {
  int64_t round = 0;
  double time_s = 0;  ///< of one call
  std::optional<double> clock_hz;
};

struct TimedSeries {
  int64_t calls_per_sample = 1;
  std::vector<TimedSample> samples;
  Interval interval;  ///< of the median; not known below 6 samples
  bool converged = false;

  std::vector<double> times_s() const;
};

struct RoundOptions {
  double half_width = 0.02;  ///< of the interval, relative to the median, where a case stops
  double budget_s = 2;       ///< timed seconds per case; the sample that crosses it is the last
  uint64_t seed = 0;         ///< of the order within a round
  std::optional<size_t> baseline;
  /// Seconds of untimed calls before every sample, taken from the budget; none before calls that last 0.1 s.
  /// Needed where cases have different pools of threads: idle threads spin for milliseconds and take the
  /// cores from the case at work, whose own threads must be woken and spread over the cores first.
  double warm_up_s = 0;
  /// Called before a case runs, outside the timed region.
  std::function<void(size_t)> announce = [](size_t) {};
};

/// Throws what a case throws.
std::vector<TimedSeries> time_rounds(const std::vector<TimedCase>& cases, const RoundOptions& options);

/// Median of the per-round ratios series / baseline with its interval; nothing where they share no round.
struct Ratio {
  double median = 0;
  Interval interval;
};
std::optional<Ratio> paired_ratio(const TimedSeries& series, const TimedSeries& baseline);

/// Shortest sample: 1000 steps of the clock, and at least 200 microseconds.
double shortest_sample_s();

}  // namespace attn
