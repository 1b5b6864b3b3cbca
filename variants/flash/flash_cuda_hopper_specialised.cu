// Fused attention on Hopper, second rung: warp specialisation. One thread of a warpgroup of its own loads
// tiles into rings of buffers; barriers in shared memory, not those of the block, tell when a tile is there
// and when its buffer is free. That warpgroup gives its registers to the two or three that compute
// (setmaxnreg).
//
// What it teaches: loading without a thread of the products waiting for it, and 240 registers for those.
//
// The kernel: flash_hopper.cuh. Time O(h n^2 d) (visited tiles only), workspace O(n). Shah et al.,
// "FlashAttention-3", 2024, algorithm 1.
// Measured effect: a loss by itself. 504 TFLOP/s full and 447 causal at n = 4096 on an H200 (bf16, d = 128,
// b n = 16k, h d = 2048, cold operands); at n = 8192, the card warm, 583 and 561, against 617 and 573
// without. No product runs beside a warpgroup's own softmax here; it is what the rungs above stand on.

#include "variants/flash/flash_hopper_variant.cuh"

namespace attn {
namespace {

using Rung = FlashHopperRung<HopperRung{.specialised = true}>;

ATTN_REGISTER(std::make_unique<Rung>("flash/cuda/hopper/specialised", "Shah et al. 2024"));

}  // namespace
}  // namespace attn
