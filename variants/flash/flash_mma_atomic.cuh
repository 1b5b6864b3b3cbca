#pragma once
// flash/cuda/mma/atomic around the thread block that it shares with flash/cuda/mma's backward: scratch,
// choice of the instance, cost. Templated on the queue, so that it also runs in the host model.

#include "variants/flash/flash_mma_backward.cuh"

namespace attn {

inline int64_t flash_mma_atomic_blocks(const Problem& p) {
  return std::max({flash_mma_gradient_blocks(p, GradientOf::all), FillQueryRows<Bf16>::blocks(p),
                   FinishQuerySums<Bf16, 64>::blocks(p)});
}

/// Of a block.
inline size_t flash_mma_atomic_shared_bytes(const Problem& p) {
  using Wide = FlashMmaGradient<Bf16, 128, true, false, GradientOf::all>;
  using Narrow = FlashMmaGradient<Bf16, 64, true, false, GradientOf::all>;
  return flash_mma_width(p) == 64 ? Narrow::shared_bytes() : Wide::shared_bytes();
}

struct FlashMmaAtomicScratch : FlashMmaBackwardScratch {
  float* query_sums;

  static int64_t count(const Problem& p) {
    return p.batch * p.heads_q * QueryRows::length_of(p) * flash_mma_width(p);
  }
  static FlashMmaAtomicScratch take(const Problem& p, Workspace& workspace) {
    FlashMmaAtomicScratch scratch{FlashMmaBackwardScratch::take(p, workspace), nullptr};
    scratch.query_sums = workspace.take<float>("sums of dQ", count(p));
    return scratch;
  }
};

template <class T, int kWidth, class Queue>
void launch_flash_mma_atomic(const Queue& queue, const Problem& p, const FlashMmaGradientArgs<T>& args) {
  launch_flash_mma_gradient<T, kWidth, GradientOf::all>(queue, p, args);
  using Finish = FinishQuerySums<T, kWidth>;
  queue.blocks(Finish::blocks(p),
               Finish{args.query_sums, args.d_q, args.queries, p.heads_q, p.seq_q, args.scale});
}

template <class T, class Queue>
void flash_mma_atomic_backward(const Queue& queue, const Problem& p, const Backward& backward,
                               const FlashMmaAtomicScratch& scratch) {
  FlashMmaGradientArgs<T> args = flash_mma_gradient_args<T>(queue, p, backward, scratch);
  args.query_sums = scratch.query_sums;
  fill_query_rows<T>(queue, p, backward, scratch.queries);
  queue.for_each(FlashMmaAtomicScratch::count(p) / 4, ClearSums{scratch.query_sums});
  if (flash_mma_width(p) == 64) return launch_flash_mma_atomic<T, 64>(queue, p, args);
  launch_flash_mma_atomic<T, 128>(queue, p, args);
}

inline Cost flash_mma_atomic_cost(const Problem& p) {
  Cost cost = flash_mma_gradient_cost(p, {{GradientOf::all, 5}});
  cost.bytes_moved += 3 * 4.0 * static_cast<double>(FlashMmaAtomicScratch::count(p));  // cleared, added, read
  cost.memory_order = "O(n d)";
  return cost;
}

}  // namespace attn
