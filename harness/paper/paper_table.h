#pragma once
// The tables of a paper, from a campaign: what stands in them, without a format.

#include <string>
#include <vector>

#include "harness/analysis/analysis.h"

namespace attn {

struct PaperCell {
  std::string text;         ///< where there is no number: a name, or why there is none
  Number value, low, high;  ///< low and high: 95 % interval, where there is one
};

struct PaperColumn {
  std::string name;
  std::string unit;  ///< empty: none
  bool number = true;
  bool interval = false;  ///< its cells have intervals
};

/// Rows with the same text in the first column belong together: one printed table each.
struct PaperTable {
  std::string name;     ///< time, memory or exponents
  std::string caption;  ///< one sentence, without the first column
  std::vector<PaperColumn> columns;
  std::vector<std::vector<PaperCell>> rows;
};

/// Median time in ms with its interval: a row per n, h and d_head, a column per variant.
PaperTable time_table(const CampaignData& campaign);
/// Operands and observed workspace in MiB, in the same form.
PaperTable memory_table(const CampaignData& campaign);
/// Fitted exponents with intervals beside those of the declared cost.
PaperTable exponent_table(const Analysis& analysis);

/// One table per text of the first column, which moves into the caption; columns that are empty there are
/// left out.
std::vector<PaperTable> split_table(const PaperTable& table);

}  // namespace attn
