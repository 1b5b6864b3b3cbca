// The backward of flash/cuda/hopper (flash_cuda_hopper.cu): dQ, dK and dV on wgmma, bf16 and f16, d and dv
// up to 128, every mask.
//
// A pass over O and dO for D = rowsum dO.O, a kernel over key tiles with all five products, a pass that
// rounds dQ. P is recomputed from the LSE. dQ is added up in float32 memory by bulk copies, by the blocks of
// a head one after the other, so that results are bitwise the same in every run. The thread block stands in
// flash_hopper_gradient.cuh. Tensors that TMA does not accept go to flash/cuda/mma.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n d): dQ in float32, LSE and D of each query. Dao,
// "FlashAttention-2", 2023, algorithm 2; Shah et al., "FlashAttention-3", 2024. Measured effect:
// README.md.

#include "variants/flash/flash_cuda_backward.h"
#include "variants/flash/flash_hopper_backward.cuh"
#include "variants/flash/flash_hopper_forward.cuh"

namespace attn {
namespace {

template <class Void>
bool accepted(const BasicTensor<Void>& tensor, const Problem& p, bool of_queries, int64_t width) {
  return tma_accepts(tensor,
                     {p.batch, of_queries ? p.seq_q : p.seq_kv, of_queries ? p.heads_q : p.heads_kv, width});
}
bool tma_accepts_all(const Problem& p, const Backward& args) {
  return accepted(args.q, p, true, p.head_dim) && accepted(args.d_q, p, true, p.head_dim) &&
         accepted(args.o, p, true, p.value_dim) && accepted(args.d_o, p, true, p.value_dim) &&
         accepted(args.k, p, false, p.head_dim) && accepted(args.d_k, p, false, p.head_dim) &&
         accepted(args.v, p, false, p.value_dim) && accepted(args.d_v, p, false, p.value_dim);
}

template <class T>
void enqueue_gradients(const CudaQueue& queue, const Problem& p, const Backward& args,
                       const FlashHopperBackwardScratch& scratch) {
  flash_hopper_backward<T>(
      queue, p, args, scratch,
      [](const auto& tensor, const TensorShape& shape) { return tensor_map<T>(tensor, shape, 64); },
      [&](const auto& body, int64_t count) { enqueue_hopper(queue, body, count); });
}

}  // namespace

template <>
Support FlashCudaHopperBackward::supports(const Problem& p) {
  const Support support = hopper_gradient_supports(p);
  return support ? Support{hopper_missing()} : support;
}

template <>
void FlashCudaHopperBackward::plan(const Problem& p, Workspace& counting) {
  FlashHopperBackwardScratch::take(p, counting);
}

template <>
Cost FlashCudaHopperBackward::cost(const Problem& p) {
  return flash_hopper_backward_cost(p);
}

template <>
void FlashCudaHopperBackward::prepare(const Context& context, const Problem& p, Workspace& workspace) {
  FlashHopperBackwardScratch::take(p, workspace).prepare(CudaQueue(context.stream), p);
}

template <>
void FlashCudaHopperBackward::run(const Context& context, const Problem& p, const Backward& args,
                                  Workspace& workspace) {
  if (!tma_accepts_all(p, args)) return FlashCudaMmaBackward::run(context, p, args, workspace);
  const CudaQueue queue(context.stream);
  const FlashHopperBackwardScratch scratch = FlashHopperBackwardScratch::take(p, workspace);
  if (p.dtype == Dtype::bf16) return enqueue_gradients<Bf16>(queue, p, args, scratch);
  enqueue_gradients<F16>(queue, p, args, scratch);
}

}  // namespace attn
