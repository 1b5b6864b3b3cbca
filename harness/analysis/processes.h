#pragma once
// Samples of one quantity from several processes.
//
// A process has pages, an address layout and places of its threads of its own: its samples agree with each
// other better than with those of the next process (Kalibera and Jones 2013; Georges et al. 2007).

#include <optional>
#include <vector>

#include "harness/analysis/interval.h"

namespace attn {

using ByProcess = std::vector<std::vector<double>>;

/// Interval of the median of all samples by order statistics, widened until it holds the median of every
/// process: it is never narrower than what the processes differ by. Not known below 6 samples in all.
Interval interval_over_processes(const ByProcess& samples);

/// Whether that interval is known and within `target` of the median, relative, on both sides.
bool within_target(const ByProcess& samples, double target);

/// Standard deviations of one-way random effects, by the method of moments (Searle et al. 1992, section 3.6):
/// within from the mean square in a process; between is 0 where the processes differ no more than samples
/// explain. Empty where there are too few samples, or processes, to say.
struct Deviations {
  std::optional<double> within, between;
};
Deviations deviations_of(const ByProcess& samples);

/// Which samples lie beyond Tukey's outer fences, three interquartile ranges outside the quartiles. None
/// below 6 samples.
std::vector<bool> find_outliers(const std::vector<double>& samples);

std::vector<double> join(const ByProcess& samples);

}  // namespace attn
