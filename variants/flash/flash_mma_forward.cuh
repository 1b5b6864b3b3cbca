#pragma once
// flash/cuda/mma around its thread block: scratch, arguments, choice of the instance, cost. Templated on the
// queue, so that the whole forward also runs in the host model.

#include "variants/flash/flash_mma.cuh"

namespace attn {

inline constexpr int64_t kFlashMmaWidest = 256;

inline int flash_mma_width(const Problem& p) {
  const int64_t widest = std::max(p.head_dim, p.value_dim);
  return widest <= 64 ? 64 : widest <= 128 ? 128 : 256;
}
/// The plain kernel folds the scale into the exponential, behind the maximum: it must be positive.
inline bool flash_mma_extended(const Problem& p) {
  return p.softcap != 0 || p.position.toeplitz() || p.softmax_scale() < 0;
}
inline int64_t flash_mma_blocks(const Problem& p) {
  return flash_blocks(p, flash_mma_rows(flash_mma_width(p)));
}

struct FlashMmaScratch {
  DeviceMask mask;
  DeviceBias bias;

  static FlashMmaScratch take(const Problem& p, Workspace& workspace) {
    FlashMmaScratch scratch;
    scratch.mask = DeviceMask::take(p, workspace);
    scratch.bias = DeviceBias::take(p, workspace);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    mask.prepare(queue, p);
    bias.prepare(queue, p);
  }
};

template <class T, class Queue>
FlashMmaArgs<T> flash_mma_args(const Queue& queue, const Problem& p, const Forward& forward,
                               const FlashMmaScratch& scratch) {
  FlashMmaArgs<T> args{FlashShape::of(p, scratch.mask.rule(p))};
  args.q = gpu_tensor<const T>(forward.q);
  args.k = gpu_tensor<const T>(forward.k);
  args.v = gpu_tensor<const T>(forward.v);
  args.o = gpu_tensor<T>(forward.o);
  args.lse = forward.lse;
  args.head_dim = static_cast<int>(p.head_dim);
  args.value_dim = static_cast<int>(p.value_dim);
  args.q_aligned = args.q.aligned(p.head_dim);
  args.k_aligned = args.k.aligned(p.head_dim);
  args.v_aligned = args.v.aligned(p.value_dim);
  args.o_aligned = args.o.aligned(p.value_dim);
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.bias.fill(queue, p, forward.tables);
  return args;
}

template <class T, int kWidth, class Queue>
void launch_flash_mma(const Queue& queue, const Problem& p, const FlashMmaArgs<T>& args) {
  const int64_t count = flash_mma_blocks(p);
  if (flash_mma_extended(p)) return queue.blocks(count, FlashMma<T, kWidth, true, true>{args});
  if (!p.mask.none()) return queue.blocks(count, FlashMma<T, kWidth, true, false>{args});
  queue.blocks(count, FlashMma<T, kWidth, false, false>{args});
}

template <class T, class Queue>
void flash_mma_forward(const Queue& queue, const Problem& p, const Forward& forward,
                       const FlashMmaScratch& scratch) {
  const FlashMmaArgs<T> args = flash_mma_args<T>(queue, p, forward, scratch);
  switch (flash_mma_width(p)) {
    case 64:
      return launch_flash_mma<T, 64>(queue, p, args);
    case 128:
      return launch_flash_mma<T, 128>(queue, p, args);
    default:
      return launch_flash_mma<T, 256>(queue, p, args);
  }
}

/// What the kernel executes: whole tiles, visible or not, over padded channels.
inline Cost flash_mma_cost(const Problem& p) {
  const int width = flash_mma_width(p);
  const int64_t rows = flash_mma_rows(width), keys = flash_mma_keys(width, flash_mma_extended(p));
  const double heads = static_cast<double>(p.heads_q),
               tiles = heads * static_cast<double>(count_visited_tiles(p, rows, keys));
  const double pairs = tiles * static_cast<double>(rows * keys),
               channels = static_cast<double>(p.head_dim + p.value_dim);
  const double queries = heads * static_cast<double>(p.batch * p.seq_q);
  Cost cost;
  cost.flops_executed = 2 * 2 * width * pairs;
  cost.exps = pairs;
  cost.bytes_moved = 2 * channels * (queries + tiles * static_cast<double>(keys)) + 4 * queries;
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = "O(n)";
  return cost;
}

}  // namespace attn
