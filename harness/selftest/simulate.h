#pragma once
// Simulated campaigns with a known truth: rows and raw samples as a campaign writes them, without measuring.

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "harness/analysis/series.h"

namespace attn {

/// Noise of ln time. The defaults are what results/scaling-n and results/quick show on two shared cores.
struct Noise {
  double within = 0.027;        ///< sd of the samples of a point, median over points
  double within_spread = 0.6;   ///< sd of the logarithm of that sd from point to point
  double correlation = 0.25;    ///< between successive samples
  double slow_share = 0.03;     ///< of samples that something else delayed,
  double slow_mean = 0.3;       ///< by this much on average (exponential)
  double between = 0.02;        ///< sd of a whole process: placement, pages, neighbours
  double slow_processes = 0.0;  ///< share of processes that a neighbour disturbs all along, by slow_mean / 3
};

/// The stopping rule of a campaign (harness/measure/rounds.h): the interval of the median, or the budget,
/// both shared out to the processes of a point. A wide target stands for a ratio that is known at once.
struct Stopping {
  double target = 0.02;
  double budget_s = 4;
  int processes = 2;
};

/// Raw times of one point in all its processes, around a true time.
Samples simulate_samples(double true_time_s, const Noise& noise, const Stopping& stopping,
                         std::mt19937_64& random);

/// The row of a dense problem at x on the axis, otherwise n = 2048, h = 8, d_head = 64: shape and operands,
/// flops_executed proportional to x^declared_exponent; no time, no workspace.
ResultRow simulate_row(const std::string& variant, Axis axis, double x, double declared_exponent);

struct SimulatedCampaign {
  std::vector<ResultRow> rows;
  SampleIndex samples;

  /// A row with its samples; the median becomes its time.
  void add(ResultRow row, Samples times);
};

/// A generator of its own for each trial, so that threads change no result.
std::mt19937_64 trial_random(uint64_t seed, uint64_t scenario, uint64_t trial);

}  // namespace attn
