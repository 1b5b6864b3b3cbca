#pragma once
// Local exponents between neighbouring x: slopes.csv, where a curve that is no power shows.

#include <string>
#include <vector>

#include "harness/analysis/analytic.h"
#include "harness/analysis/series.h"

namespace attn {

/// A row of slopes.csv; columns are the members' names. Interval of a time's: 95 % percentile over kResamples
/// bootstrap resamples of the raw samples (fixed seed); it does not hold the differences between processes.
/// Bytes and FLOPs are exact.
struct SlopeRow {
  std::string variant, axis, quantity, setting;
  Number from, to;
  Number exponent, exponent_ci_low, exponent_ci_high;
  Number declared_exponent;  ///< of the declared quantity between the two
  std::string fitted;        ///< yes where the fit uses both points, no otherwise
};

/// Ascending x, over the points that have the quantity.
std::vector<SlopeRow> local_slopes(const Series& series, Quantity quantity);
std::vector<SlopeRow> all_slopes(const std::vector<Series>& sweeps);

}  // namespace attn
