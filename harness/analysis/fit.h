#pragma once
// The exponents of every sweep: fits.csv. Which points a fit uses: selection.h. Model and interval: model.h.
//
// Verdict: `agrees` where the interval holds one of the two analytic exponents, the one at the last point
// (analytic.h) and the same fit of the declared quantity over the same points, or a value between them where
// they are within kGrowthTolerance of each other; for exact quantities to kExactTolerance. `differs`
// otherwise; `too few points` below kSweepPoints; `unknown` without an analytic exponent.

#include <cstdint>
#include <string>
#include <vector>

#include "harness/analysis/analytic.h"
#include "harness/analysis/model.h"
#include "harness/analysis/selection.h"
#include "harness/analysis/series.h"

namespace attn {

inline constexpr double kExactTolerance = 0.01;

/// A row of fits.csv; columns are the members' names. The fitted quantity is offset + coefficient *
/// x^exponent.
struct FitRow {
  std::string variant, axis, quantity, unit, setting;
  int64_t points = 0;    ///< used
  int64_t excluded = 0;  ///< left out
  std::string why_excluded;
  std::string knees;  ///< cache knees seen, left out or not
  Number from, to;    ///< smallest and largest x used
  std::string model;  ///< power, offset_power, zero (no bytes at all), or empty
  Number exponent, exponent_ci_low, exponent_ci_high, offset, coefficient;
  Number loglog_exponent;                 ///< of the power without an offset, whichever model was chosen
  Number residual_rms;                    ///< of the natural logarithm: about the relative misfit
  Number analytic_exponent;               ///< at the largest x used
  Number analytic_exponent_fitted_range;  ///< same fit of the declared quantity over the points used
  Number held_out_x;                      ///< the largest x, predicted without it (model.h)
  Number held_out_error_fitted, held_out_error_declared;
  std::string held_out_better;  ///< fitted or declared: the smaller error
  std::string verdict;
};

FitRow fit_series(const Series& series, Quantity quantity);
/// Every sweep and quantity that the rows hold, ordered by axis, quantity, setting and variant.
std::vector<FitRow> fit_all(const std::vector<Series>& sweeps);

}  // namespace attn
