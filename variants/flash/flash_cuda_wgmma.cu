// Fused attention with Hopper's own instructions, the first rung: TMA copies tiles, wgmma multiplies them in
// shared memory, and nothing else changes against flash/cuda/mma. Every warpgroup computes; the block's first
// thread also starts the copies, one tile of keys ahead. Q K^T, softmax and P V follow one another.
//
// What it teaches: how much of the gain is the instructions alone. The softmax stands still while products
// run and the products while it runs, unless another warpgroup of the block fills the gap by chance.
//
// The kernel: flash_hopper.cuh (load_and_compute). Time O(h n^2 d) (visited tiles only), workspace O(n).
// Bikshandi and Shah 2023, "A Case Study in CUDA Kernel Fusion: FlashAttention-2 on NVIDIA Hopper".
// Measured effect: 617 TFLOP/s full and 573 causal at n = 8192 on an H200 (bf16, d = 128, b n = 16k, h d =
// 2048, the card warm), against 352 and 317 of flash/cuda/mma. Two warpgroups that are free to drift apart
// fill many of each other's gaps.

#include "variants/flash/flash_hopper_variant.cuh"

namespace attn {
namespace {

using Rung = FlashHopperRung<HopperRung{}>;

ATTN_REGISTER(std::make_unique<Rung>("flash/cuda/wgmma", "Bikshandi and Shah 2023"));

}  // namespace
}  // namespace attn
