#pragma once
// The points that a fit uses. What is left out is recorded with its reason:
//
// 1. Rows that are not ok or lack the quantity, and zero bytes (they have no logarithm).
//
// 2. Times below kTimeFloor_s, from the smallest x on, as long as kSweepPoints stay: calls and thread starts,
// not work.
//
// 3. On axis n, from the smallest on, points whose declared work (flops_executed) has not reached its final
// growth: its local exponent up to the next point differs by more than kGrowthTolerance from the one between
// the last two points; kPointsForGrowth stay in any case. A window longer than n is the common case. Times
// play no part in it.
//
// 4. Points before a cache knee, as long as kPointsForGrowth stay. A knee is where the working set (operands
// and workspace) leaves a level of the caches, and the time there steps away from the median of the other
// local exponents by more than kKneeStep of ln time, and by more than kKneeScatters times the usual scatter
// of such steps.

#include <string>
#include <vector>

#include "harness/analysis/analytic.h"
#include "harness/analysis/series.h"

namespace attn {

inline constexpr double kTimeFloor_s = 20e-6;
inline constexpr double kGrowthTolerance = 0.1;
inline constexpr size_t kPointsForGrowth = 4;
inline constexpr double kKneeStep = 0.15;
inline constexpr double kKneeScatters = 3;

struct Selection {
  std::vector<Point> used;
  std::vector<std::string> excluded;  ///< "256: reason"
  std::vector<std::string>
      knees;  ///< "4096: leaves L3, time steps by 1.40"; those kept for want of points too
};
Selection select_points(const Series& series, Quantity quantity);

/// The power of x by which y grows from (x1, y1) to (x2, y2).
double local_exponent(double x1, double y1, double x2, double y2);

}  // namespace attn
