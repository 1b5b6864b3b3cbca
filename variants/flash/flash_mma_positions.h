#pragma once
// The instances of flash/cuda/mma for RoPE and Shaw terms, compiled in a file of their own.

#include "harness/variant.h"

namespace attn {

struct FlashMmaScratch;

/// Of bf16 and f16.
void enqueue_flash_mma_positions(void* stream, const Problem& p, const Forward& args,
                                 const FlashMmaScratch& scratch);

}  // namespace attn
