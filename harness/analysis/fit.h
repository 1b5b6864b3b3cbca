#pragma once
// The exponents of every sweep: fits.csv.
//
// Points left out, always recorded with the reason:
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
// Model: the plain power y = c x^b, unless an offset a >= 0 lowers Akaike's corrected criterion by at least
// kAkaikeMargin and the declared growth is at least kLeastGrowthForOffset (where work hardly grows an offset
// and a power cannot be told apart). Bytes and FLOPs are exact: there an offset is taken, from four points
// on, where it fits to kExactResidual and the power does not.
//
// Interval of a time's exponent: from the lowest to the highest end of the fit's own 95 % interval
// (power_fit.h) and of the 95 % percentile interval over kResamples bootstrap resamples of the raw samples
// (fixed seed), so that neither the model's misfit nor the noise of the medians is left out.
//
// Verdict: `agrees` where the interval holds one of the two analytic exponents, the one at the last point
// (analytic.h) and the same fit of the declared quantity over the same points, or a value between them where
// they are within kGrowthTolerance of each other; for exact quantities to kExactTolerance. `differs`
// otherwise; `too few points` below kSweepPoints; `unknown` without an analytic exponent.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "harness/analysis/analytic.h"
#include "harness/analysis/interval.h"
#include "harness/analysis/power_fit.h"
#include "harness/analysis/series.h"

namespace attn {

inline constexpr double kTimeFloor_s = 20e-6;
inline constexpr double kGrowthTolerance = 0.1;
inline constexpr size_t kPointsForGrowth = 4;
inline constexpr double kAkaikeMargin = 2;
inline constexpr double kLeastGrowthForOffset = 0.5;
inline constexpr double kExactResidual = 1e-6;
inline constexpr double kExactTolerance = 0.01;
inline constexpr int kResamples = 400;
inline constexpr uint64_t kBootstrapSeed = 20170612;

/// A row of fits.csv; columns are the members' names. The fitted quantity is offset + coefficient *
/// x^exponent.
struct FitRow {
  std::string variant, axis, quantity, unit, setting;
  int64_t points = 0;    ///< used
  int64_t excluded = 0;  ///< left out
  std::string why_excluded;
  Number from, to;    ///< smallest and largest x used
  std::string model;  ///< power, offset_power, zero (no bytes at all), or empty
  Number exponent, exponent_ci_low, exponent_ci_high, offset, coefficient;
  Number residual_rms;                    ///< of the natural logarithm: about the relative misfit
  Number analytic_exponent;               ///< at the largest x used
  Number analytic_exponent_fitted_range;  ///< same fit of the declared quantity over the points used
  std::string verdict;
};

FitRow fit_series(const Series& series, Quantity quantity);
/// Every sweep and quantity that the rows hold, ordered by axis, quantity, setting and variant.
std::vector<FitRow> fit_all(const std::vector<Series>& sweeps);

/// The points a fit uses and the reasons for the others; see above.
struct Selection {
  std::vector<Point> used;
  std::vector<std::string> excluded;  ///< "256: reason"
};
Selection select_points(const Series& series, Quantity quantity);

}  // namespace attn
