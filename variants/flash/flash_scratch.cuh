#pragma once
// What every fused kernel keeps in its workspace: the mask's arrays, rotated copies, biases by distance. Each
// is empty where the problem has no such thing.

#include "variants/common/mask_cuda.cuh"
#include "variants/common/position_cuda.cuh"

namespace attn {

struct FlashScratch {
  DeviceMask mask;
  DeviceRope rope;
  DeviceBias bias;

  /// bias_front, bias_back: of DeviceBias::take.
  static FlashScratch take(const Problem& p, Workspace& workspace, int64_t bias_front = 0,
                           int64_t bias_back = 0) {
    FlashScratch scratch;
    scratch.mask = DeviceMask::take(p, workspace);
    scratch.rope = DeviceRope::take(p, workspace);
    scratch.bias = DeviceBias::take(p, workspace, bias_front, bias_back);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    mask.prepare(queue, p);
    rope.prepare(queue, p);
    bias.prepare(queue, p);
  }
};

}  // namespace attn
