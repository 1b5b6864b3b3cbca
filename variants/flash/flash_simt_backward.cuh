#pragma once
// flash/cuda/simt's backward around its thread block: scratch, arguments, choice of the instances, cost.
// Templated on the queue, so that the whole backward also runs in the host model.

#include "variants/flash/flash_simt_forward.cuh"
#include "variants/flash/flash_simt_shaw_gradient.cuh"

namespace attn {

inline int64_t flash_simt_gradient_blocks(const Problem& p, bool of_queries) {
  const int64_t rows = flash_simt_gradient_rows(static_cast<int>(flash_simt_width(p)));
  return of_queries ? flash_blocks(p, rows) : flash_key_blocks(p, rows);
}
/// Of the largest launch.
inline int64_t flash_simt_backward_blocks(const Problem& p) {
  const int64_t partials = std::max(ShawSums::kMostPartials, p.position.shaw_rows());
  return std::max({flash_simt_gradient_blocks(p, true), flash_simt_gradient_blocks(p, false),
                   FillQueryRows<float>::blocks(p), partials});
}

struct FlashSimtBackwardScratch : FlashScratch {
  QueryRows queries;
  BucketSums table;
  ShawSums shaw;

  static FlashSimtBackwardScratch take(const Problem& p, Workspace& workspace) {
    FlashSimtBackwardScratch scratch{FlashScratch::take(p, workspace)};
    scratch.queries = QueryRows::take(p, workspace);
    scratch.table = BucketSums::take(p, scratch.bias, flash_simt_gradient_blocks(p, true), workspace);
    scratch.shaw = ShawSums::take(p, workspace);
    return scratch;
  }
};

template <class Queue>
FlashSimtGradientArgs flash_simt_gradient_args(const Queue& queue, const Problem& p, const Backward& backward,
                                               const FlashSimtBackwardScratch& scratch) {
  FlashSimtGradientArgs args{FlashShape::of(p, scratch.mask.rule(p))};
  const auto q = gpu_tensor<const float>(backward.q), k = gpu_tensor<const float>(backward.k);
  if (!scratch.rope.empty()) scratch.rope.rotate(queue, p, q, k);
  args.q = {scratch.rope.empty() ? q : scratch.rope.q(p), p.head_dim};
  args.k = {scratch.rope.empty() ? k : scratch.rope.k(p), p.head_dim};
  args.v = {gpu_tensor<const float>(backward.v), p.value_dim};
  args.d_o = {gpu_tensor<const float>(backward.d_o), p.value_dim};
  args.d_q = {gpu_tensor<float>(backward.d_q), p.head_dim};
  args.d_k = {gpu_tensor<float>(backward.d_k), p.head_dim};
  args.d_v = {gpu_tensor<float>(backward.d_v), p.value_dim};
  args.queries = scratch.queries;
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.bias.fill(queue, p, backward.tables);
  args.table = scratch.table;
  if (p.position.shaw()) args.shaw_key = backward.tables.shaw_key;
  if (p.position.shaw_values()) args.shaw_value = backward.tables.shaw_value;
  args.clip = p.position.clip;
  args.edges = scratch.shaw.edges;
  args.edge_count = p.batch * p.heads_q * p.seq_q;
  return args;
}

template <int kWidth, bool kOfQueries, class Queue>
void launch_flash_simt_gradient(const Queue& queue, const Problem& p, const FlashSimtGradientArgs& args) {
  const int64_t count = flash_simt_gradient_blocks(p, kOfQueries);
  if (p.softcap != 0 || p.position.toeplitz() || p.position.shaw()) {
    return queue.blocks(count, FlashSimtGradient<kWidth, true, true, kOfQueries>{args});
  }
  if (!p.mask.none()) return queue.blocks(count, FlashSimtGradient<kWidth, true, false, kOfQueries>{args});
  queue.blocks(count, FlashSimtGradient<kWidth, false, false, kOfQueries>{args});
}
template <int kWidth, class Queue>
void launch_flash_simt_gradients(const Queue& queue, const Problem& p, const FlashSimtGradientArgs& args) {
  launch_flash_simt_gradient<kWidth, false>(queue, p, args);
  launch_flash_simt_gradient<kWidth, true>(queue, p, args);
}

template <class Queue>
void flash_simt_backward(const Queue& queue, const Problem& p, const Backward& backward,
                         const FlashSimtBackwardScratch& scratch) {
  const FlashSimtGradientArgs args = flash_simt_gradient_args(queue, p, backward, scratch);
  queue.blocks(FillQueryRows<float>::blocks(p),
               FillQueryRows<float>{gpu_tensor<const float>(backward.o), args.d_o.tensor, backward.lse,
                                    scratch.queries, p.heads_q, p.seq_q, p.value_dim});
  switch (flash_simt_width(p)) {
    case 64:
      launch_flash_simt_gradients<64>(queue, p, args);
      break;
    case 128:
      launch_flash_simt_gradients<128>(queue, p, args);
      break;
    default:
      launch_flash_simt_gradients<256>(queue, p, args);
  }
  if (!scratch.rope.empty()) scratch.rope.rotate_back(queue, p, args.d_q.tensor, args.d_k.tensor);
  if (p.position.shaw()) {
    const int64_t table_rows = p.position.shaw_rows();
    queue.blocks(scratch.shaw.splits * table_rows, FlashSimtShawGradient{args, scratch.shaw, p.batch});
    queue.for_each(
        table_rows * (p.head_dim + p.value_dim),
        AddShawPartials{scratch.shaw.partials, backward.d_tables.shaw_key, backward.d_tables.shaw_value,
                        scratch.shaw.splits, table_rows, p.head_dim, p.value_dim, args.scale});
  }
  scratch.table.add_up(queue, p, flash_simt_gradient_blocks(p, true), backward.d_tables.t5_bias);
}

/// What the kernels execute: whole tiles, visible or not.
inline Cost flash_simt_backward_cost(const Problem& p) {
  const int64_t rows = flash_simt_gradient_rows(static_cast<int>(flash_simt_width(p)));
  const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
  const double heads = static_cast<double>(p.heads_q);
  const double queries = heads * static_cast<double>(p.batch * p.seq_q);
  const double keys = static_cast<double>(p.heads_kv * p.batch * p.seq_kv);
  const double of_queries =
      heads * static_cast<double>(count_visited_tiles(p, rows, kFlashSimtGradientColumns));
  const double of_keys = heads * static_cast<double>(count_seeing_tiles(p, rows, kFlashSimtGradientColumns));
  const double pairs = static_cast<double>(rows * kFlashSimtGradientColumns);
  Cost cost;
  cost.flops_executed = pairs * (of_queries * 2 * (2 * d + dv) + of_keys * 2 * (2 * d + 2 * dv));
  if (p.position.shaw()) {  // of pairs with the tables; their gradients, at most once a pair and row
    const double terms = d + (p.position.shaw_values() ? dv : 0);
    const double rows_met = heads * static_cast<double>(p.batch * p.seq_q) *
                            static_cast<double>(std::min(p.position.shaw_rows(), p.seq_kv + 2));
    cost.flops_executed += pairs * (of_queries * 2 * (terms + d) + of_keys * 2 * terms);
    cost.flops_executed += 2 * rows_met * 2 * (d + dv);
  }
  cost.exps = pairs * (of_queries + of_keys);
  cost.bytes_moved = 4 * ((d + dv) * 2 * (queries + keys) + queries +
                          (d + dv) * kFlashSimtGradientColumns * (of_queries + of_keys));
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = "O(n)";
  return cost;
}

}  // namespace attn
