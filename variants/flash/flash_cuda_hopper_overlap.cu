// Fused attention on Hopper, third rung: overlap inside a warpgroup. Q K^T of tile j is issued before P V of
// tile j - 1; the softmax of j then runs beside that P V. The scores of one tile and the weights of another
// are in registers together.
//
// What it teaches: tensor cores that work during a softmax without a second warpgroup's help.
//
// The kernel: flash_hopper.cuh (compute_overlapped). Time O(h n^2 d) (visited tiles only), workspace O(n).
// Shah et al., "FlashAttention-3", 2024, algorithm 2 and section 3.2.
// Measured effect: not measured, it has not run on a GPU yet.

#include "variants/flash/flash_hopper_variant.cuh"

namespace attn {
namespace {

using Rung = FlashHopperRung<HopperRung{.specialised = true, .overlap = true}>;

ATTN_REGISTER(std::make_unique<Rung>(Info{.name = "flash/cuda/hopper/overlap",
                                          .family = "dense",
                                          .device = Device::cuda,
                                          .tags = {"flash", "tiled", "tensor cores", "hopper"},
                                          .citation = "Shah et al. 2024"}));

}  // namespace
}  // namespace attn
