#pragma once
// flash/cuda/mma's backward around its thread block: scratch, arguments, choice of the instances, cost.
// Templated on the queue, so that the whole backward also runs in the host model.

#include "variants/flash/flash_mma_forward.cuh"
#include "variants/flash/flash_mma_gradient.cuh"

namespace attn {

/// Unlike the forward's, the plain kernel takes any scale: the maximum is known.
inline bool flash_mma_gradient_extended(const Problem& p) { return p.softcap != 0 || p.position.toeplitz(); }
inline int64_t flash_mma_gradient_blocks(const Problem& p, GradientOf of) {
  const int64_t rows = flash_mma_gradient_rows(flash_mma_width(p), flash_mma_gradient_extended(p), of);
  return of == GradientOf::queries ? flash_blocks(p, rows) : flash_key_blocks(p, rows);
}

/// Of the largest launch.
inline int64_t flash_mma_backward_blocks(const Problem& p) {
  return std::max({flash_mma_gradient_blocks(p, GradientOf::queries),
                   flash_mma_gradient_blocks(p, GradientOf::keys_and_values),
                   FillQueryRows<Bf16>::blocks(p)});
}

struct FlashMmaBackwardScratch : FlashScratch {
  QueryRows queries;
  BucketSums table;

  static FlashMmaBackwardScratch take(const Problem& p, Workspace& workspace) {
    constexpr int64_t kMost = kFlashMmaMostRows;  // of a tile, rows or columns
    FlashMmaBackwardScratch scratch{FlashScratch::take(p, workspace, kMost, kMost)};
    scratch.queries = QueryRows::take(p, workspace);
    scratch.table =
        BucketSums::take(p, scratch.bias, flash_mma_gradient_blocks(p, GradientOf::queries), workspace);
    return scratch;
  }
};

template <class T, class Queue>
FlashMmaGradientArgs<T> flash_mma_gradient_args(const Queue& queue, const Problem& p,
                                                const Backward& backward,
                                                const FlashMmaBackwardScratch& scratch) {
  FlashMmaGradientArgs<T> args{FlashShape::of(p, scratch.mask.rule(p))};
  args.q = {gpu_tensor<const T>(backward.q), p.head_dim};
  args.k = {gpu_tensor<const T>(backward.k), p.head_dim};
  args.v = {gpu_tensor<const T>(backward.v), p.value_dim};
  args.d_o = {gpu_tensor<const T>(backward.d_o), p.value_dim};
  args.d_q = {gpu_tensor<T>(backward.d_q), p.head_dim};
  args.d_k = {gpu_tensor<T>(backward.d_k), p.head_dim};
  args.d_v = {gpu_tensor<T>(backward.d_v), p.value_dim};
  args.queries = scratch.queries;
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.bias.fill(queue, p, backward.tables);
  args.table = scratch.table;
  return args;
}

template <class T, int kWidth, GradientOf kOf, class Queue>
void launch_flash_mma_gradient(const Queue& queue, const Problem& p, const FlashMmaGradientArgs<T>& args) {
  const int64_t count = flash_mma_gradient_blocks(p, kOf);
  if (flash_mma_gradient_extended(p)) {
    return queue.blocks(count, FlashMmaGradient<T, kWidth, true, true, kOf>{args});
  }
  // Where registers are shortest, the kernel without masks spills one or two and the other one does not.
  constexpr bool kAlwaysMasked =
      (kWidth == 128 && kOf == GradientOf::queries) || (kWidth == 64 && kOf == GradientOf::keys_and_values);
  if (kAlwaysMasked || !p.mask.none()) {
    return queue.blocks(count, FlashMmaGradient<T, kWidth, true, false, kOf>{args});
  }
  if constexpr (!kAlwaysMasked) queue.blocks(count, FlashMmaGradient<T, kWidth, false, false, kOf>{args});
}

template <class T, int kWidth, class Queue>
void launch_flash_mma_gradients(const Queue& queue, const Problem& p, const FlashMmaGradientArgs<T>& args) {
  if constexpr (kWidth == 256) {  // both sums do not fit in a thread's registers
    launch_flash_mma_gradient<T, kWidth, GradientOf::values>(queue, p, args);
    launch_flash_mma_gradient<T, kWidth, GradientOf::keys>(queue, p, args);
  } else {
    launch_flash_mma_gradient<T, kWidth, GradientOf::keys_and_values>(queue, p, args);
  }
  launch_flash_mma_gradient<T, kWidth, GradientOf::queries>(queue, p, args);
}

template <class T, class Queue>
void fill_query_rows(const Queue& queue, const Problem& p, const Backward& backward, const QueryRows& rows) {
  queue.blocks(FillQueryRows<T>::blocks(p),
               FillQueryRows<T>{gpu_tensor<const T>(backward.o), gpu_tensor<const T>(backward.d_o),
                                backward.lse, rows, p.heads_q, p.seq_q, p.value_dim});
}

template <class T, class Queue>
void flash_mma_backward(const Queue& queue, const Problem& p, const Backward& backward,
                        const FlashMmaBackwardScratch& scratch) {
  const FlashMmaGradientArgs<T> args = flash_mma_gradient_args<T>(queue, p, backward, scratch);
  fill_query_rows<T>(queue, p, backward, scratch.queries);
  switch (flash_mma_width(p)) {
    case 64:
      launch_flash_mma_gradients<T, 64>(queue, p, args);
      break;
    case 128:
      launch_flash_mma_gradients<T, 128>(queue, p, args);
      break;
    default:
      launch_flash_mma_gradients<T, 256>(queue, p, args);
  }
  scratch.table.add_up(queue, p, flash_mma_gradient_blocks(p, GradientOf::queries),
                       backward.d_tables.t5_bias);
}

/// A launch, and how many products of a pair's rows it makes.
struct GradientProducts {
  GradientOf of;
  int products;
};
/// What the kernels execute: whole tiles, visible or not, over padded channels.
inline Cost flash_mma_gradient_cost(const Problem& p, const std::vector<GradientProducts>& launches) {
  const int width = flash_mma_width(p);
  const double heads = static_cast<double>(p.heads_q),
               channels = static_cast<double>(p.head_dim + p.value_dim);
  const double queries = heads * static_cast<double>(p.batch * p.seq_q);
  const double keys = static_cast<double>(p.heads_kv * p.batch * p.seq_kv);
  Cost cost;
  cost.bytes_moved = 2 * channels * (queries + keys) + 4 * queries;  // results; O and dO for D
  for (const auto [of, products] : launches) {
    const bool of_queries = of == GradientOf::queries;
    const int64_t rows = flash_mma_gradient_rows(width, flash_mma_gradient_extended(p), of);
    const int64_t columns = flash_mma_gradient_columns(width, of);
    const double tiles = heads * static_cast<double>(of_queries ? count_visited_tiles(p, rows, columns)
                                                                : count_seeing_tiles(p, rows, columns));
    const double pairs = tiles * static_cast<double>(rows * columns);
    cost.flops_executed += 2 * products * width * pairs;
    cost.exps += pairs;
    cost.bytes_moved += 2 * channels * ((of_queries ? queries : keys) + tiles * static_cast<double>(columns));
  }
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = "O(n)";
  return cost;
}

inline Cost flash_mma_backward_cost(const Problem& p) {
  if (flash_mma_width(p) == 256) {
    return flash_mma_gradient_cost(
        p, {{GradientOf::queries, 3}, {GradientOf::keys, 3}, {GradientOf::values, 2}});
  }
  return flash_mma_gradient_cost(p, {{GradientOf::queries, 3}, {GradientOf::keys_and_values, 4}});
}

}  // namespace attn
