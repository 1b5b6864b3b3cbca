#pragma once
// The instances of flash/cuda/mma for RoPE and Shaw terms, compiled in a file of their own.

#include "harness/variant.h"

namespace attn {

struct FlashMmaScratch;
struct FlashShawArgs;

/// Of bf16 and f16.
void enqueue_flash_mma_positions(void* stream, const Problem& p, const Forward& args,
                                 const FlashMmaScratch& scratch);

/// The products of Q and aK alone (flash_mma_shaw.cuh).
FlashShawArgs enqueue_shaw_terms(void* stream, const Problem& p, const Forward& args,
                                 const FlashMmaScratch& scratch);

}  // namespace attn
