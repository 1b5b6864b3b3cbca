#pragma once
// The Hopper rungs around their kernel: what they support, scratch, tensor maps, launch, cost.

#include "variants/flash/flash_hopper.cuh"
#include "variants/flash/flash_mma_common.h"
#include "variants/flash/flash_mma_forward.cuh"

namespace attn {

inline FlashKind hopper_kind(const Problem& p) {
  return flash_mma_extended(p) ? FlashKind::extended : p.mask.none() ? FlashKind::plain : FlashKind::masked;
}
inline int hopper_rows_of(const Problem& p) { return hopper_rows(flash_mma_width(p), hopper_kind(p)); }

/// A reason, or nothing where there is no GPU to ask.
inline std::string hopper_missing() {
  int device = 0, major = 0;
  const bool found = cudaGetDevice(&device) == cudaSuccess &&
                     cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device) == cudaSuccess;
  if (!found) cudaGetLastError();
  return found && major != 9 ? "a Hopper GPU only (compute capability 9.0)" : "";
}

inline Support hopper_supports(const Problem& p) {
  constexpr int64_t kLongest = int64_t{1} << 30;
  if (p.pass == Pass::bwd) return {"forward only"};
  if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
  if (p.head_dim > kFlashMmaWidest || p.value_dim > kFlashMmaWidest) return {"d and dv at most 256"};
  if (p.head_dim % 8 != 0 || p.value_dim % 8 != 0) return {"d and dv multiples of 8, as TMA reads them"};
  if (p.position.rope()) return {"no RoPE: Q and K rotated to 16 bits would miss the error bound"};
  if (p.position.shaw()) return {"no Shaw terms"};
  if (p.seq_q > kLongest || p.seq_kv > kLongest) return {"at most 2^30 queries and keys"};
  if (flash_blocks(p, hopper_rows_of(p)) > INT32_MAX) return {"more than 2^31 - 1 rows of tiles"};
  return {hopper_missing()};
}

struct HopperScratch : FlashScratch {
  unsigned* taken = nullptr;

  static HopperScratch take(const Problem& p, Workspace& workspace) {
    HopperScratch scratch{FlashScratch::take(p, workspace)};
    scratch.taken = workspace.take<unsigned>("rows of tiles taken", 1);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    FlashScratch::prepare(queue, p);
    const unsigned none = 0;
    queue.upload(taken, &none, sizeof(none));
  }
};

inline TensorShape hopper_q_shape(const Problem& p) { return {p.batch, p.seq_q, p.heads_q, p.head_dim}; }
inline TensorShape hopper_k_shape(const Problem& p) { return {p.batch, p.seq_kv, p.heads_kv, p.head_dim}; }
inline TensorShape hopper_v_shape(const Problem& p) { return {p.batch, p.seq_kv, p.heads_kv, p.value_dim}; }
inline TensorShape hopper_o_shape(const Problem& p) { return {p.batch, p.seq_q, p.heads_q, p.value_dim}; }

inline bool hopper_strides(const Problem& p, const Forward& forward) {
  return tma_accepts(forward.q, hopper_q_shape(p)) && tma_accepts(forward.k, hopper_k_shape(p)) &&
         tma_accepts(forward.v, hopper_v_shape(p)) && tma_accepts(forward.o, hopper_o_shape(p));
}

/// Enqueues the biases too.
template <class T>
FlashHopperArgs<T> hopper_args(const CudaQueue& queue, const Problem& p, const Forward& forward,
                               const HopperScratch& scratch) {
  const int keys = hopper_keys(flash_mma_width(p));
  FlashHopperArgs<T> args{FlashShape::of(p, scratch.mask.rule(p))};
  args.q_map = tensor_map<T>(forward.q, hopper_q_shape(p), 64);
  args.k_map = tensor_map<T>(forward.k, hopper_k_shape(p), keys);
  args.v_map = tensor_map<T>(forward.v, hopper_v_shape(p), keys);
  args.o_map = tensor_map<T>(forward.o, hopper_o_shape(p), 16);
  args.q = gpu_tensor<const T>(forward.q);
  args.k = gpu_tensor<const T>(forward.k);
  args.v = gpu_tensor<const T>(forward.v);
  args.lse = forward.lse;
  args.head_dim = static_cast<int>(p.head_dim);
  args.value_dim = static_cast<int>(p.value_dim);
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.bias.fill(queue, p, forward.tables);
  args.schedule = HopperSchedule::of(p, hopper_rows_of(p));
  args.taken = scratch.taken;
  return args;
}

template <HopperRung kRung, class Body>
void enqueue_hopper(const CudaQueue& queue, const Body& body) {
  const auto count = static_cast<int64_t>(body.args.schedule.count());
  const int64_t blocks = kRung.persistent ? std::min(count, CudaQueue::gpu().multiprocessors) : count;
  const size_t bytes = Body::shared_bytes();
  ATTN_CUDA_CHECK(cudaFuncSetAttribute(hopper_kernel<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(bytes)));
  hopper_kernel<Body><<<static_cast<unsigned>(blocks), Body::kThreads, bytes, queue.stream()>>>(body);
  ATTN_CUDA_CHECK(cudaGetLastError());
}
template <class T, FlashKind kKind, HopperRung kRung>
void launch_hopper(const CudaQueue& queue, const Problem& p, const FlashHopperArgs<T>& args) {
  switch (flash_mma_width(p)) {
    case 64:
      return enqueue_hopper<kRung>(queue, FlashHopper<T, 64, kKind, kRung>{args});
    case 128:
      return enqueue_hopper<kRung>(queue, FlashHopper<T, 128, kKind, kRung>{args});
    default:
      return enqueue_hopper<kRung>(queue, FlashHopper<T, 256, kKind, kRung>{args});
  }
}

/// Tensors that TMA does not accept go to the rung below, flash/cuda/mma. kEvery: with bias and softcap.
template <class T, HopperRung kRung, bool kEvery>
void hopper_forward(const Context& context, const Problem& p, const Forward& forward,
                    const HopperScratch& scratch) {
  const CudaQueue queue(context.stream);
  if (!hopper_strides(p, forward)) {
    return enqueue_flash_mma_common(context.stream, p, forward, FlashMmaScratch{FlashScratch(scratch), {}});
  }
  const FlashHopperArgs<T> args = hopper_args<T>(queue, p, forward, scratch);
  switch (hopper_kind(p)) {
    case FlashKind::plain:
      return launch_hopper<T, FlashKind::plain, kRung>(queue, p, args);
    case FlashKind::masked:
      return launch_hopper<T, FlashKind::masked, kRung>(queue, p, args);
    default:
      if constexpr (kEvery) launch_hopper<T, FlashKind::extended, kRung>(queue, p, args);
  }
}

/// What the kernels execute: whole tiles, visible or not, over padded channels.
inline Cost hopper_cost(const Problem& p) {
  const int width = flash_mma_width(p), keys = hopper_keys(width), rows = hopper_rows_of(p);
  const double heads = static_cast<double>(p.heads_q),
               tiles = heads * static_cast<double>(count_visited_tiles(p, rows, keys)),
               pairs = tiles * rows * keys, queries = heads * static_cast<double>(p.batch * p.seq_q);
  const auto channels = static_cast<double>(p.head_dim + p.value_dim);
  Cost cost;
  cost.flops_executed = 2 * 2 * width * pairs;
  cost.exps = pairs;
  cost.bytes_moved = 2 * channels * (queries + tiles * keys) + 4 * queries;
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = "O(n)";
  return cost;
}

}  // namespace attn
