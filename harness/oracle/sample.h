#pragma once
// Which rows and columns of the truth are worth their cost.

#include <cstdint>
#include <vector>

#include "harness/oracle/oracle.h"

namespace attn {

struct Sample {
  bool complete = true;
  std::vector<std::vector<int64_t>> rows;  ///< [batch] query rows, known for every head
  /// [batch * heads_kv] keys whose dK and dV are known; empty where that would need too many row facts.
  std::vector<std::vector<int64_t>> columns;
};

/// Everything within options.max_pairs. Beyond it the rows and columns at tile edges (0, 1, 63, 64, 65, 127,
/// 128, the middle, the last) and random ones; dK and dV of as many key/value heads as 8 max_pairs pays for,
/// and of one where that costs at most 24 max_pairs.
Sample draw_sample(const Problem& problem, const TruthOptions& options);

}  // namespace attn
