#pragma once
// The f16 instances of flash/cuda/hopper, compiled in a file of their own.

#include "harness/variant.h"

namespace attn {

struct HopperScratch;

void hopper_forward_f16(const Context& context, const Problem& p, const Forward& forward,
                        const HopperScratch& scratch);

}  // namespace attn
