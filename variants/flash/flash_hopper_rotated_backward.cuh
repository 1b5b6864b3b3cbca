#pragma once
// The backward of flash/cuda/hopper/rotated: that of flash/cuda/hopper, without a position, on Q and K that
// are rotated ahead; dQ and dK are rotated back in float32, before they are rounded.

#include "variants/flash/flash_hopper_backward.cuh"
#include "variants/flash/flash_hopper_rotated.cuh"

namespace attn {

/// What is left to solve once Q and K are rotated.
inline Problem without_position(Problem p) {
  p.position = {};
  return p;
}

/// As far as the problem says.
inline Support rotated_gradient_supports(const Problem& p) {
  if (p.head_dim % 16 != 0) return {"backward with RoPE: d a multiple of 16"};
  return hopper_gradient_supports(without_position(p));
}

struct RotatedBackwardScratch {
  FlashHopperBackwardScratch hopper;
  RotatedOperands rotated;

  static RotatedBackwardScratch take(const Problem& p, Workspace& workspace) {
    RotatedBackwardScratch scratch{FlashHopperBackwardScratch::take(without_position(p), workspace)};
    scratch.rotated = RotatedOperands::take(p, RotatedAhead::q_and_k, workspace);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    hopper.prepare(queue, without_position(p));
    rotated.angles.prepare(queue, p);
  }
};

template <class T, class Queue, class MakeMap, class Launch>
void rotated_backward(const Queue& queue, const Problem& p, const Backward& backward,
                      const RotatedBackwardScratch& scratch, MakeMap make_map, Launch launch) {
  const RopeAngles& angles = scratch.rotated.angles;
  flash_hopper_backward<T>(queue, without_position(p), rotate_ahead<T>(queue, p, backward, scratch.rotated),
                           scratch.hopper, make_map, launch,
                           {hopper_rope(p, angles, p.offset()), hopper_rope(p, angles, 0)});
}

/// Q and K are read and written once more; their rows and those of the gradients read their angles.
inline Cost rotated_backward_cost(const Problem& p) {
  Cost cost = flash_hopper_backward_cost(without_position(p));
  const auto rows = static_cast<double>(p.batch * (p.heads_q * p.seq_q + p.heads_kv * p.seq_kv));
  cost.bytes_moved += (2 * 2 + 2 * 4) * static_cast<double>(p.head_dim) * rows;
  return cost;
}

}  // namespace attn
