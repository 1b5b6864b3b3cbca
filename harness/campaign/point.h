#pragma once
// One point, in the worker: inputs and truth once; every variant bound, checked and its memory observed;
// those that agree timed against each other; checked once more on what the last timed call left behind.

#include <functional>

#include "harness/campaign/protocol.h"

namespace attn {

/// The GPU answers nothing more in this process; the variant that did it has its row.
struct DeviceLost {};

/// Emits one outcome per variant of the job. An exception of a variant becomes its row; others leave, and so
/// does DeviceLost.
void run_point(const Job& job, Board& board, const std::function<void(const Outcome&)>& emit);

}  // namespace attn
