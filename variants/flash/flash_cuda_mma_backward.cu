// The backward of flash/cuda/mma (flash_cuda_mma.cu): dQ, dK, dV and the gradient of a T5 table on tensor
// cores.
//
// A pass over O and dO for D = rowsum dO.O, a kernel over key tiles for dK and dV (two for head widths beyond
// 128), a kernel over query tiles for dQ. P is recomputed from the LSE; there are no atomics, so that results
// are bitwise the same in every run. The thread block stands in flash_mma_gradient.cuh, where tests run it on
// the host.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n): LSE and D of each query; for T5 a row of sums by
// bucket for each block of queries. Dao, "FlashAttention-2", 2023, algorithm 2. Measured effect
// on an H200, bf16, n = 4096, b n = 16k, h d = 2048: d = 128 6.37 ms (3.85 causal), d = 64 6.77 ms (4.01).

#include "variants/flash/flash_cuda_backward.h"

#include "variants/flash/flash_mma_backward.cuh"

namespace attn {

template <>
Support FlashCudaMmaBackward::supports(const Problem& p) {
  if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
  if (p.head_dim > kFlashMmaWidest || p.value_dim > kFlashMmaWidest) return {"d and dv at most 256"};
  if (p.position.shaw()) return {"no gradients of Shaw terms"};
  if (p.position.rope()) return {"no gradients through RoPE"};
  if (flash_mma_backward_blocks(p) > INT32_MAX) return {"more than 2^31 - 1 thread blocks"};
  return {};
}

template <>
void FlashCudaMmaBackward::plan(const Problem& p, Workspace& counting) {
  FlashMmaBackwardScratch::take(p, counting);
}

template <>
Cost FlashCudaMmaBackward::cost(const Problem& p) {
  return flash_mma_backward_cost(p);
}

template <>
void FlashCudaMmaBackward::prepare(const Context& context, const Problem& p, Workspace& workspace) {
  FlashMmaBackwardScratch::take(p, workspace).prepare(CudaQueue(context.stream), p);
}

template <>
void FlashCudaMmaBackward::run(const Context& context, const Problem& p, const Backward& args,
                               Workspace& workspace) {
  const CudaQueue queue(context.stream);
  const FlashMmaBackwardScratch scratch = FlashMmaBackwardScratch::take(p, workspace);
  if (p.dtype == Dtype::bf16) return flash_mma_backward<Bf16>(queue, p, args, scratch);
  flash_mma_backward<F16>(queue, p, args, scratch);
}

}  // namespace attn
