// The backward of flash/cuda/hopper (flash_cuda_hopper.cu): dQ, dK and dV on wgmma, bf16 and f16, d and dv
// up to 128, every mask, ALiBi, softcap; and of flash/cuda/hopper/rotated (RoPE), which has the same kernels
// on rotated operands.
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
#include "variants/flash/flash_hopper_forward.cuh"
#include "variants/flash/flash_hopper_rotated_backward.cuh"

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

/// enqueue(map of a tensor, launch of a body).
template <class T, class Enqueue>
void on_device(const CudaQueue& queue, Enqueue enqueue) {
  enqueue([](const auto& tensor, const TensorShape& shape) { return tensor_map<T>(tensor, shape, 64); },
          [&](const auto& body, int64_t count) { enqueue_hopper(queue, body, count); });
}

template <class T>
void enqueue_gradients(const CudaQueue& queue, const Problem& p, const Backward& args,
                       const FlashHopperBackwardScratch& scratch) {
  on_device<T>(queue, [&](auto make_map, auto launch) {
    flash_hopper_backward<T>(queue, p, args, scratch, make_map, launch);
  });
}
template <class T>
void enqueue_gradients(const CudaQueue& queue, const Problem& p, const Backward& args,
                       const RotatedBackwardScratch& scratch) {
  on_device<T>(queue, [&](auto make_map, auto launch) {
    rotated_backward<T>(queue, p, args, scratch, make_map, launch);
  });
}

Support on_this_gpu(const Support& support) { return support ? Support{hopper_missing()} : support; }

}  // namespace

template <>
Support FlashCudaHopperBackward::supports(const Problem& p) {
  return on_this_gpu(hopper_gradient_supports(p));
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

template <>
Support FlashCudaRotatedBackward::supports(const Problem& p) {
  return on_this_gpu(rotated_gradient_supports(p));
}

template <>
void FlashCudaRotatedBackward::plan(const Problem& p, Workspace& counting) {
  RotatedBackwardScratch::take(p, counting);
}

template <>
Cost FlashCudaRotatedBackward::cost(const Problem& p) {
  return rotated_backward_cost(p);
}

template <>
void FlashCudaRotatedBackward::prepare(const Context& context, const Problem& p, Workspace& workspace) {
  RotatedBackwardScratch::take(p, workspace).prepare(CudaQueue(context.stream), p);
}

template <>
void FlashCudaRotatedBackward::run(const Context& context, const Problem& p, const Backward& args,
                                   Workspace& workspace) {
  if (!tma_accepts_all(p, args)) throw std::invalid_argument("strides that TMA does not accept");
  const CudaQueue queue(context.stream);
  const RotatedBackwardScratch scratch = RotatedBackwardScratch::take(p, workspace);
  if (p.dtype == Dtype::bf16) return enqueue_gradients<Bf16>(queue, p, args, scratch);
  enqueue_gradients<F16>(queue, p, args, scratch);
}

}  // namespace attn
