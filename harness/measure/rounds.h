#pragma once
// Timing of several cases against each other: interleaved rounds in random order through Google Benchmark,
// until the answer about every case is known well enough or its budget is spent.
//
// A sample is a batch of calls long enough for the clock; its time is that of one call. The answer is the
// ratio to the baseline, paired by round: what disturbs a round disturbs both. A case leaves the rounds when
// the 95 % interval of the median ratio, by order statistics, is within the target on both sides (at least 6
// rounds: fewer have no such interval), or when its budget is spent. Without a baseline, or once the
// baseline's budget is spent, the interval of its own median counts; so it does for the baseline, which stays
// while others run.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "harness/measure/clock.h"

namespace attn {

struct TimedCase {
  std::string name;
  /// Seconds for `calls` calls back to back, on the clock of the case's device.
  std::function<double(int64_t calls)> time_s;
  double clock_step_s = clock_resolution_s();  ///< of that clock
  /// Of the sample just taken; the core's where the case does not say.
  std::function<ClockReading()> clock = [] { return ClockReading{core_clock_hz(), ""}; };
};

struct TimedSample {
  int64_t round = 0;
  double time_s = 0;  ///< of one call
  std::optional<double> clock_hz;
  std::string throttled;  ///< as ClockReading
};

/// What ended the sampling of a case.
enum class Stop {
  budget,  ///< neither of the others within the budget
  ratio,   ///< the ratio to the baseline is known within the target
  median   ///< the case's own median is
};
std::string to_text(Stop stop);

struct TimedSeries {
  int64_t calls_per_sample = 1;
  std::vector<TimedSample> samples;
  Stop stop = Stop::budget;

  std::vector<double> times_s() const;
};

struct RoundOptions {
  double target = 0.02;  ///< half-width of the interval, relative to the median, where a case stops
  double budget_s = 2;   ///< timed seconds per case; the sample that crosses it is the last
  uint64_t seed = 0;     ///< of the order within a round
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

/// Of each round that both have, in the order of the series.
std::vector<double> ratios_by_round(const std::vector<TimedSample>& series,
                                    const std::vector<TimedSample>& baseline);

/// Shortest sample: 1000 steps of the clock, and at least 200 microseconds.
double shortest_sample_s(double clock_step_s = clock_resolution_s());

}  // namespace attn
