#pragma once
// What one call costs from the host while the device has nothing else to do.

#include "harness/campaign/point_entry.h"

namespace attn {

/// Fills in the row's latencies: plain calls and replays in turn, for some milliseconds. None where a call
/// takes so long that the host's part of it cannot show; no replays where it cannot be captured.
void measure_latency(PointEntry& entry);

}  // namespace attn
