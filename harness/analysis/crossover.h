#pragma once
// Where one variant overtakes another along n, and along the density of a sparse mask: crossovers.csv, one
// row per pair of variants, setting and quantity.
//
// On the x that both measured, ln(y_a / y_b) is interpolated linearly in ln x; the crossover is its last
// change of sign, so that B is below A from there to the end of the range. The interval of a time's crossover
// is the 95 % percentile interval over kResamples bootstrap resamples of both variants' raw samples (fixed
// seed); an end stays empty where resamples put the crossing outside the range. Bytes are exact: their
// interval is the point itself. Pairs are named so that B is the one below at the largest common x: along the
// density that is often the dense one.

#include <string>
#include <vector>

#include "harness/analysis/analytic.h"
#include "harness/analysis/series.h"

namespace attn {

/// A row of crossovers.csv; columns are the members' names.
struct CrossoverRow {
  std::string quantity;  ///< time, workspace or total_memory
  std::string axis;      ///< n or density
  std::string setting, variant_a, variant_b;
  int64_t points = 0;  ///< common x
  Number from, to;     ///< their range
  Number crossover, crossover_ci_low, crossover_ci_high;
  int64_t crossings = 0;    ///< changes of sign within the range
  Number ratio_at_to;       ///< a / b at the largest common x
  Number theory_crossover;  ///< the same crossover of the declared quantity: executed FLOPs or planned bytes
  std::string theory;       ///< crosses, below throughout, above at the end (all of B), equal, unknown
  std::string verdict;      ///< crosses, uncertain, not within range (B everywhere below A), equal
};

/// One curve's last change of sign. `above` holds ln(y_a / y_b), ascending in x.
struct LastCrossing {
  double x = 0;  ///< 0: positive throughout; infinite: not positive at the end
  int64_t crossings = 0;
};
LastCrossing last_crossing(const std::vector<double>& x, const std::vector<double>& above);

/// All pairs of sweeps with the same axis, n or density, and setting, with at least two common points.
std::vector<CrossoverRow> find_crossovers(const std::vector<Series>& sweeps);

}  // namespace attn
