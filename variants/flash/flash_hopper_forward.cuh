#pragma once
// The Hopper rungs around their kernel: what they support, and the launch.

#include "variants/common/tensor_map.h"
#include "variants/flash/flash_hopper_args.cuh"
#include "variants/flash/flash_hopper_top.h"
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

/// Whatever the position.
inline Support hopper_supports_shape(const Problem& p) {
  constexpr int64_t kLongest = int64_t{1} << 30;
  if (p.pass == Pass::bwd) return {"forward only"};
  if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
  if (p.head_dim > kFlashMmaWidest || p.value_dim > kFlashMmaWidest) return {"d and dv at most 256"};
  if (p.head_dim % 8 != 0 || p.value_dim % 8 != 0) return {"d and dv multiples of 8, as TMA reads them"};
  if (p.seq_q > kLongest || p.seq_kv > kLongest) return {"at most 2^30 queries and keys"};
  if (flash_blocks(p, 64) > INT32_MAX) return {"more than 2^31 - 1 rows of tiles"};
  return {hopper_missing()};
}
inline Support hopper_supports(const Problem& p) {
  if (const Support shape = hopper_supports_shape(p); !shape) return shape;
  if (p.position.rope()) return {"RoPE: flash/cuda/hopper/rotated, whose Q and K are rotated to 16 bits"};
  if (p.position.shaw_values()) return {"no Shaw values: flash/cuda/mma"};
  if (p.position.shaw() && (p.softcap != 0 || p.softmax_scale() < 0)) {
    return {"Shaw keys with softcap or a negative scale: flash/cuda/mma"};
  }
  return {};
}

/// Of one rung everywhere: without bias, softcap and small tiles. Of the top: every instance, each with the
/// switches that suit it.
template <HopperRung kRung>
struct HopperOneRung {
  static constexpr bool kTop = false;
  static constexpr HopperRung of(int, HopperKind) { return kRung; }
};
struct HopperTopRung {
  static constexpr bool kTop = true;
  static constexpr HopperRung of(int width, HopperKind kind) { return hopper_best_rung(width, kind); }
};

template <class Body>
void enqueue_hopper(const CudaQueue& queue, const Body& body, int64_t blocks) {
  const size_t bytes = Body::shared_bytes();
  ATTN_CUDA_CHECK(cudaFuncSetAttribute(hopper_kernel<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                       static_cast<int>(bytes)));
  hopper_kernel<Body><<<static_cast<unsigned>(blocks), Body::kThreads, bytes, queue.stream()>>>(body);
  ATTN_CUDA_CHECK(cudaGetLastError());
}
template <class Body>
void enqueue_hopper_rows(const CudaQueue& queue, const Body& body) {
  const auto count = static_cast<int64_t>(body.args.schedule.count());
  enqueue_hopper(queue, body, Body::kPersistent ? std::min(count, CudaQueue::gpu().multiprocessors) : count);
}
template <class T, int kWidth, HopperKind kKind, class Rungs>
void launch_hopper_tiles(const CudaQueue& queue, const FlashHopperArgs<T>& args, HopperTiling tiling) {
  constexpr HopperRung kRung = Rungs::of(kWidth, kKind);
  constexpr HopperTiling kLarge = hopper_tiling(kWidth, kKind), kSmall = hopper_smaller(kLarge);
  if constexpr (Rungs::kTop && hopper_has_smaller(kWidth, kKind)) {
    if (tiling.consumers == kSmall.consumers)
      return enqueue_hopper_rows(queue, FlashHopper<T, kWidth, kKind, kRung, kSmall>{args});
  }
  enqueue_hopper_rows(queue, FlashHopper<T, kWidth, kKind, kRung, kLarge>{args});
}
template <class T, HopperKind kKind, class Rungs>
void launch_hopper(const CudaQueue& queue, const FlashHopperArgs<T>& args, const HopperTiles& tiles) {
  switch (tiles.width) {
    case 64:
      return launch_hopper_tiles<T, 64, kKind, Rungs>(queue, args, tiles);
    case 128:
      return launch_hopper_tiles<T, 128, kKind, Rungs>(queue, args, tiles);
    case 192:
      if constexpr (Rungs::kTop && hopper_has_wide_keys(kKind))
        launch_hopper_tiles<T, 192, kKind, Rungs>(queue, args, tiles);
      return;
    default:
      return launch_hopper_tiles<T, 256, kKind, Rungs>(queue, args, tiles);
  }
}
/// For HopperScratch and cost.
template <class Rungs>
HopperTiles hopper_tiles_in_use(const Problem& p) {
  return Rungs::kTop ? hopper_best_tiles(p, CudaQueue::gpu().multiprocessors)
                     : HopperTiles::of(flash_mma_width(p), hopper_kind(p));
}

template <class T>
FlashHopperArgs<T> hopper_device_args(const CudaQueue& queue, const Problem& p, const Forward& forward,
                                      const HopperScratch& scratch, const HopperTiles& tiles) {
  return hopper_args<T>(
      queue, p, forward, scratch,
      [](const auto& tensor, const TensorShape& shape, int rows, int heads) {
        return tensor_map<T>(tensor, shape, rows, heads);
      },
      tiles);
}

/// Without Shaw terms. Tensors that TMA does not accept go to the rung below, flash/cuda/mma.
template <class T, class Rungs>
void hopper_forward(const Context& context, const Problem& p, const Forward& forward,
                    const HopperScratch& scratch) {
  const CudaQueue queue(context.stream);
  if (!hopper_strides(p, forward)) {
    return enqueue_flash_mma_common(context.stream, p, forward, scratch);
  }
  const HopperTiles& tiles = scratch.tiles;
  if (tiles.packed()) return hopper_forward_packed(context, p, forward, scratch);
  const FlashHopperArgs<T> args = hopper_device_args<T>(queue, p, forward, scratch, tiles);
  switch (hopper_kind(p)) {
    case HopperKind::plain:
      return launch_hopper<T, HopperKind::plain, Rungs>(queue, args, tiles);
    case HopperKind::masked:
      return launch_hopper<T, HopperKind::masked, Rungs>(queue, args, tiles);
    case HopperKind::biased:
      if constexpr (Rungs::kTop) launch_hopper<T, HopperKind::biased, Rungs>(queue, args, tiles);
      return;
    case HopperKind::capped:
      if constexpr (Rungs::kTop) launch_hopper<T, HopperKind::capped, Rungs>(queue, args, tiles);
      return;
    case HopperKind::shaw:  // flash_cuda_hopper_shaw.cu
    case HopperKind::rope:  // flash_cuda_hopper_rope.cu
    case HopperKind::packed:
      return;
  }
}

}  // namespace attn
