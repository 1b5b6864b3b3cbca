#pragma once
// Blocks and the same cores alone, side by side, and the time of the projections as their difference.

#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "harness/analysis/series.h"

namespace attn {

/// Of a block's time, at most: beyond it the difference is mostly noise.
inline constexpr double kLargestCoreShare = 0.8;

/// A block and its core alone; x is n.
struct Layer {
  Point core, block;
};

/// Every block that is ok and has an ok row of its core, with the same variant, threads and machine; ordered
/// by variant and point. Borrows from rows and samples.
std::vector<Layer> pair_layers(const std::vector<ResultRow>& rows, const SampleIndex& samples);

/// Every core once.
std::vector<ResultRow> core_rows(const std::vector<Layer>& layers);

/// Rows of the projections as if they had been measured alone, and why a row says little; empty where it does
/// not. The interval of the time is that of the difference: 95 % percentiles over kResamples bootstrap
/// resamples of both rows' raw samples (fixed seed).
struct Projections {
  std::vector<ResultRow> rows;
  std::vector<std::string> unclear;
};
Projections projections_of(const std::vector<Layer>& layers);

/// Stands before the variant's name in rows of projections. No linked variant has such a name, so the
/// declared growth comes from the rows' own columns.
inline constexpr std::string_view kDifference = "block less core: ";

/// A problem's or a setting's text without these fields.
std::string without_fields(const std::string& text, const std::set<std::string_view>& names);

}  // namespace attn
