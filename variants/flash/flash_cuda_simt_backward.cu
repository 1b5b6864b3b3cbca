// The backward of flash/cuda/simt (flash_cuda_simt.cu): dQ, dK, dV and the gradients of position tables in
// float32, every mask and position.
//
// A pass over O and dO for D = rowsum dO.O, a kernel over key tiles for dK and dV, a kernel over query tiles
// for dQ and one for Shaw's tables; for RoPE, dQ and dK are rotated back where they lie. P is recomputed from
// the LSE; there are no atomics, so that results are bitwise the same in every run. The thread block stands
// in flash_simt_gradient.cuh, where tests run it on the host.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n): the forward's, LSE and D of each query, for T5 a row
// of sums by bucket for each block of queries, for Shaw four sums for each query and partial rows of the
// tables. Dao, "FlashAttention-2", 2023, algorithm 2. Measured effect: not measured; right on an
// H200.

#include "variants/flash/flash_cuda_backward.h"

#include "variants/flash/flash_simt_backward.cuh"

namespace attn {

template <>
Support FlashCudaSimtBackward::supports(const Problem& p) {
  if (p.dtype != Dtype::f32) return {"float32 only"};
  if (p.head_dim > kFlashSimtWidest || p.value_dim > kFlashSimtWidest) return {"d and dv at most 256"};
  if (flash_simt_backward_blocks(p) > INT32_MAX) return {"more than 2^31 - 1 thread blocks"};
  return {};
}

template <>
void FlashCudaSimtBackward::plan(const Problem& p, Workspace& counting) {
  FlashSimtBackwardScratch::take(p, counting);
}

template <>
Cost FlashCudaSimtBackward::cost(const Problem& p) {
  return flash_simt_backward_cost(p);
}

template <>
void FlashCudaSimtBackward::prepare(const Context& context, const Problem& p, Workspace& workspace) {
  FlashSimtBackwardScratch::take(p, workspace).prepare(CudaQueue(context.stream), p);
}

template <>
void FlashCudaSimtBackward::run(const Context& context, const Problem& p, const Backward& args,
                                Workspace& workspace) {
  flash_simt_backward(CudaQueue(context.stream), p, args, FlashSimtBackwardScratch::take(p, workspace));
}

}  // namespace attn
