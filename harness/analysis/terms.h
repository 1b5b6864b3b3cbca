#pragma once
// The two terms of a layer's cost, O(h n^2 d) of the core and O(n d d_o) of the projections, apart:
// terms.csv.
//
// Where a campaign holds a block and its core alone, the time of the projections is the block's less the
// core's (layers.h). It is fitted as any other time (fit.h); a point where the core takes more than
// kLargestCoreShare of the block is left out.
//
// Rows of term `core` and `projections`: the exponent along one axis, n, d, h_fixed_head or d_o; and along
// the whole product, `h n^2 d` or `n d d_o`, over all shapes of the campaign, where theory says 1.
//
// Rows of term `crossing`: the n where both take equally long, interpolated linearly in logarithms. Its
// interval is the percentile interval over resamples of all raw samples, each ratio moved by the scatter of
// the measured ones around a power of n: so it holds the differences between processes. theory_crossing is
// where their useful FLOPs are equal, n = 2D for self-attention of width D without a mask;
// theory_crossing_at_rates the same at the rates measured, the medians over the points of the two fits.

#include <string>
#include <vector>

#include "harness/analysis/series.h"

namespace attn {

/// A row of terms.csv; columns are the members' names.
struct TermRow {
  std::string variant, term, axis;
  Count d_model;  ///< empty where it moves
  int64_t threads = 0;
  int64_t points = 0, excluded = 0;
  std::string why_excluded;
  Number from, to;
  std::string model;
  Number exponent, exponent_ci_low, exponent_ci_high, analytic_exponent, residual_rms;
  Number flops_per_s;  ///< useful FLOPs over time, median over the points
  Number crossing, crossing_ci_low, crossing_ci_high, theory_crossing, theory_crossing_at_rates;
  /// As in fits.csv; of a crossing: whether its interval holds theory_crossing, or uncertain (an end of the
  /// interval lies outside the range), not within range, too few points.
  std::string verdict;
  std::string setting;
};

/// By variant, term and axis. Empty where no block has its core beside it.
std::vector<TermRow> find_terms(const std::vector<ResultRow>& rows, const SampleIndex& samples,
                                const LevelsByThreads& levels);

}  // namespace attn
