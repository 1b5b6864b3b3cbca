// Fused attention on Hopper, third rung: overlap inside a warpgroup. Q K^T of tile j is issued before P V of
// tile j - 1; the softmax of j then runs beside that P V. The scores of one tile and the weights of another
// are in registers together.
//
// What it teaches: tensor cores that work during a softmax without a second warpgroup's help.
//
// The kernel: flash_hopper.cuh (compute_overlapped). Time O(h n^2 d) (visited tiles only), workspace O(n).
// Shah et al., "FlashAttention-3", 2024, algorithm 2 and section 3.2.
// Measured effect: 504 to 617 TFLOP/s full, 447 to 527 causal, against the rung below in the same run (H200,
// bf16, d = 128, n = 4096, b n = 16k, h d = 2048, cold operands). That was with the assembler moving the wait
// for P V in front of the exponentials; HopperRows::weights_are_done() now holds it back.

#include "variants/flash/flash_hopper_variant.cuh"

namespace attn {
namespace {

using Rung = FlashHopperRung<HopperRung{.specialised = true, .overlap = true}>;

ATTN_REGISTER(std::make_unique<Rung>("flash/cuda/hopper/overlap", "Shah et al. 2024"));

}  // namespace
}  // namespace attn
