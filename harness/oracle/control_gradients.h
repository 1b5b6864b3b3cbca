#pragma once
// The control kernel's backward: P recomputed from the LSE, pair by pair.

#include "harness/oracle/control_forward.h"

namespace attn {

/// Writes every gradient of `args`.
void control_backward(const ControlForward& forward, const Backward& args);

}  // namespace attn
