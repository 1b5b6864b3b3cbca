// Fused attention on Hopper, fourth rung: turns. A warpgroup issues its two products only in its turn and
// then hands the turn on, so that the exponentials of one warpgroup run beside the products of another by
// plan, not by chance.
//
// What it teaches: the special-function units (exponentials take half as long as the products at d = 128, as
// long at d = 64) and the tensor cores busy at the same time.
//
// The kernel: flash_hopper.cuh (await_turn, pass_turn). Time O(h n^2 d) (visited tiles only), workspace O(n).
// Shah et al., "FlashAttention-3", 2024, section 3.1.
// Measured effect: 617 to 627 TFLOP/s full, 527 to 523 causal, against the rung below in the same run (H200,
// bf16, d = 128, n = 4096, b n = 16k, h d = 2048, cold operands): nothing at d = 128. It pays at d = 64
// without a mask, 520 to 547 at n = 8192, where exponentials take as long as products.

#include "variants/flash/flash_hopper_variant.cuh"

namespace attn {
namespace {

using Rung = FlashHopperRung<HopperRung{.specialised = true, .overlap = true, .pingpong = true}>;

ATTN_REGISTER(std::make_unique<Rung>("flash/cuda/hopper/pingpong", "Shah et al. 2024"));

}  // namespace
}  // namespace attn
