#pragma once
// flash/cuda/mma and flash/cuda/tf32x3 around their thread block: scratch, arguments, choice of the instance,
// cost. Templated on the queue, so that the whole forward also runs in the host model.

#include "variants/flash/flash_mma.cuh"
#include "variants/flash/flash_scratch.cuh"

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
/// Q and K are rotated in float32 and stay so: rounded to 16 bits they would miss the error bound.
inline bool flash_mma_wide(const Problem& p) { return p.dtype == Dtype::f32 || p.position.rope(); }
inline FlashKind flash_mma_kind(const Problem& p) {
  if (p.position.shaw()) return FlashKind::shaw;
  const bool rotated_halves = p.dtype != Dtype::f32 && p.position.rope();  // one instance serves them all
  if (flash_mma_extended(p) || rotated_halves) return FlashKind::extended;
  return p.mask.none() ? FlashKind::plain : FlashKind::masked;
}
inline int64_t flash_mma_blocks(const Problem& p) {
  return flash_blocks(p, flash_mma_rows(flash_mma_width(p), flash_mma_kind(p)));
}

struct FlashMmaScratch : FlashScratch {
  DeviceShaw shaw;

  static FlashMmaScratch take(const Problem& p, Workspace& workspace) {
    FlashMmaScratch scratch{FlashScratch::take(p, workspace, kFlashMmaMostKeys, kFlashMmaMostRows), {}};
    scratch.shaw = DeviceShaw::take(p, workspace);
    return scratch;
  }
};

/// Enqueues what comes before the kernel: rotated copies, biases, Shaw terms.
template <class T, class S = T, class Queue>
FlashMmaArgs<T, S> flash_mma_args(const Queue& queue, const Problem& p, const Forward& forward,
                                  const FlashMmaScratch& scratch) {
  FlashMmaArgs<T, S> args{FlashShape::of(p, scratch.mask.rule(p))};
  if constexpr (std::is_same_v<S, T>) {
    args.q = gpu_tensor<const T>(forward.q);
    args.k = gpu_tensor<const T>(forward.k);
  }
  if constexpr (std::is_same_v<S, float>) {
    if (!scratch.rope.empty()) {
      scratch.rope.rotate(queue, p, gpu_tensor<const T>(forward.q), gpu_tensor<const T>(forward.k));
      args.q = scratch.rope.q(p);
      args.k = scratch.rope.k(p);
    }
  }
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
  args.bias = scratch.bias.fill(queue, p, forward.tables, kLog2e);
  return args;
}

template <class T, class S, FlashKind kKind, class Queue>
void launch_flash_mma(const Queue& queue, const Problem& p, const FlashMmaArgs<T, S>& args) {
  const int64_t count = flash_mma_blocks(p);
  // Where registers are shortest, the kernel without masks spills one or two and the other one does not.
  constexpr FlashKind kKind128 = kKind == FlashKind::plain && sizeof(S) == 2 ? FlashKind::masked : kKind;
  switch (flash_mma_width(p)) {
    case 64:
      return queue.blocks(count, FlashMma<T, S, 64, kKind>{args});
    case 128:
      return queue.blocks(count, FlashMma<T, S, 128, kKind128>{args});
    default:
      return queue.blocks(count, FlashMma<T, S, 256, kKind>{args});
  }
}

/// Without Shaw terms; with RoPE, of 16-bit tensors whose Q and K are rotated already.
template <class T, class Queue>
void flash_mma_common(const Queue& queue, const Problem& p, const Forward& forward,
                      const FlashMmaScratch& scratch) {
  const FlashMmaArgs<T> args = flash_mma_args<T>(queue, p, forward, scratch);
  switch (flash_mma_kind(p)) {
    case FlashKind::plain:
      return launch_flash_mma<T, T, FlashKind::plain>(queue, p, args);
    case FlashKind::masked:
      return launch_flash_mma<T, T, FlashKind::masked>(queue, p, args);
    default:
      return launch_flash_mma<T, T, FlashKind::extended>(queue, p, args);
  }
}
template <class T, class Queue>
void flash_mma_shaw(const Queue& queue, const Problem& p, const Forward& forward,
                    const FlashMmaScratch& scratch) {
  FlashMmaArgs<T> args = flash_mma_args<T>(queue, p, forward, scratch);
  args.shaw = scratch.shaw.fill(queue, p, args, args.q, forward.tables);
  launch_flash_mma<T, T, FlashKind::shaw>(queue, p, args);
}
/// 16-bit tensors with RoPE.
template <class T, class Queue>
void flash_mma_rotated(const Queue& queue, const Problem& p, const Forward& forward,
                       const FlashMmaScratch& scratch) {
  const auto args = flash_mma_args<T, float>(queue, p, forward, scratch);
  launch_flash_mma<T, float, FlashKind::extended>(queue, p, args);
}

/// Whatever the problem: for one source file every instance at once, as in tests.
template <class T, class Queue>
void flash_mma_forward(const Queue& queue, const Problem& p, const Forward& forward,
                       const FlashMmaScratch& scratch) {
  if (p.position.shaw()) return flash_mma_shaw<T>(queue, p, forward, scratch);
  if constexpr (!std::is_same_v<T, float>) {
    if (p.position.rope()) return flash_mma_rotated<T>(queue, p, forward, scratch);
  }
  flash_mma_common<T>(queue, p, forward, scratch);
}

/// What the kernels execute: whole tiles, visible or not, over padded channels; float32 in three products.
inline Cost flash_mma_cost(const Problem& p) {
  const int width = flash_mma_width(p);
  const FlashKind kind = flash_mma_kind(p);
  const bool wide = flash_mma_wide(p), single = p.dtype == Dtype::f32;
  const int64_t rows = flash_mma_rows(width, kind), keys = flash_mma_keys(width, wide, kind);
  const double heads = static_cast<double>(p.heads_q),
               tiles = heads * static_cast<double>(count_visited_tiles(p, rows, keys));
  const double pairs = tiles * static_cast<double>(rows * keys);
  const double queries = heads * static_cast<double>(p.batch * p.seq_q);
  const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
  const auto element = static_cast<double>(bytes_of(p.dtype)), score_element = wide ? 4.0 : element;
  Cost cost;
  cost.flops_executed = 2 * width * pairs * ((wide ? 3 : 1) + (single ? 3 : 1));
  cost.exps = pairs;
  cost.bytes_moved = (score_element * d + element * dv) * (queries + tiles * static_cast<double>(keys));
  cost.bytes_moved += 4 * queries;
  add_shaw_keys(cost, p, width);
  if (p.position.shaw_values()) {  // scores inside the clip take the terms' place; their weights times aV
    const double terms = queries * static_cast<double>(ShawColumns::of(p).count);
    cost.flops_executed += 3 * 2 * width * terms;
    cost.exps += terms;
    cost.bytes_moved += 2 * 4 * terms;
  }
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = p.position.shaw() ? "O(n k)" : "O(n)";
  return cost;
}

}  // namespace attn
