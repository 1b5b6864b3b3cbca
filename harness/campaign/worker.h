#pragma once
// The worker process: reads one job from standard input, runs it, writes outcomes to kOutcomeDescriptor.

namespace attn {

/// Returns the exit code.
int run_worker();

}  // namespace attn
