#pragma once
// The timed part of a point: interleaved rounds over its variants, and a second pass of those on a GPU.

#include <vector>

#include "harness/campaign/point_entry.h"

namespace attn {

/// Fills in samples, stop and the host's load; nothing where it throws, and then `at_work` is the entry whose
/// call threw.
void time_entries(const Job& job, Board& board, const std::vector<PointEntry*>& timed, PointEntry*& at_work);

}  // namespace attn
