#pragma once
// flash/cuda/mma's forward without RoPE and Shaw terms, for rungs that hand it what they cannot do. With
// RoPE, Q and K are rotated already.

#include "harness/variant.h"

namespace attn {

struct FlashMmaScratch;

/// bf16 and f16, prepared by the scratch's owner.
void enqueue_flash_mma_common(void* stream, const Problem& p, const Forward& forward,
                              const FlashMmaScratch& scratch);

}  // namespace attn
