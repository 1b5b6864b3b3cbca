#pragma once
// The forward of flash/cuda/hopper, for it and for variants that prepare its operands. Its instances are
// compiled in files of their own.

#include "harness/variant.h"

namespace attn {

struct HopperScratch;

/// Whatever hopper_supports(); with RoPE, `forward` holds the rotated Q and K.
void hopper_forward_top(const Context& context, const Problem& p, const Forward& forward,
                        const HopperScratch& scratch);

/// What it consists of, beside bf16: flash_cuda_hopper_f16.cu,
void hopper_forward_f16(const Context& context, const Problem& p, const Forward& forward,
                        const HopperScratch& scratch);
/// flash_cuda_hopper_shaw.cu, both types,
void hopper_forward_shaw(const Context& context, const Problem& p, const Forward& forward,
                         const HopperScratch& scratch);
/// and flash_cuda_hopper_packed.cu, both types, where hopper_best_tiles() says so and TMA accepts the
/// strides.
void hopper_forward_packed(const Context& context, const Problem& p, const Forward& forward,
                           const HopperScratch& scratch);

}  // namespace attn
