#pragma once
// The backward of a fused rung: what its variant calls for pass = bwd. The kernels are compiled by
// themselves, in flash_cuda_<rung>_backward.cu.

#include "harness/variant.h"

namespace attn {

enum class FlashRung { simt, mma, hopper, hopper_rotated };

template <FlashRung kRung>
struct FlashCudaBackward {
  static Support supports(const Problem& problem);
  static void plan(const Problem& problem, Workspace& counting);
  static Cost cost(const Problem& problem);
  static void prepare(const Context& context, const Problem& problem, Workspace& workspace);
  static void run(const Context& context, const Problem& problem, const Backward& args, Workspace& workspace);
};
using FlashCudaSimtBackward = FlashCudaBackward<FlashRung::simt>;
using FlashCudaMmaBackward = FlashCudaBackward<FlashRung::mma>;
using FlashCudaHopperBackward = FlashCudaBackward<FlashRung::hopper>;
using FlashCudaRotatedBackward = FlashCudaBackward<FlashRung::hopper_rotated>;

}  // namespace attn
