#pragma once
// The Hopper rungs around their kernel: what they support, and the launch.

#include "variants/common/tensor_map.h"
#include "variants/flash/flash_hopper_args.cuh"
#include "variants/flash/flash_mma_common.h"

namespace attn {

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
  if (flash_blocks(p, hopper_tiling_of(p).rows()) > INT32_MAX) return {"more than 2^31 - 1 rows of tiles"};
  return {hopper_missing()};
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
template <class T, HopperKind kKind, HopperRung kRung>
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
  const FlashHopperArgs<T> args =
      hopper_args<T>(queue, p, forward, scratch, [](const auto& tensor, const TensorShape& shape, int rows) {
        return tensor_map<T>(tensor, shape, rows);
      });
  switch (hopper_kind(p)) {
    case HopperKind::plain:
      return launch_hopper<T, HopperKind::plain, kRung>(queue, p, args);
    case HopperKind::masked:
      return launch_hopper<T, HopperKind::masked, kRung>(queue, p, args);
    case HopperKind::biased:
      if constexpr (kEvery) launch_hopper<T, HopperKind::biased, kRung>(queue, p, args);
      return;
    case HopperKind::capped:
      if constexpr (kEvery) launch_hopper<T, HopperKind::capped, kRung>(queue, p, args);
  }
}

}  // namespace attn
