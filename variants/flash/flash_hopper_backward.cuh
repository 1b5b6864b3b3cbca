#pragma once
// flash/cuda/hopper's backward around its thread block: what it supports, scratch, arguments, cost. Nothing
// here needs a GPU or the driver.

#include "variants/flash/flash_hopper_gradient.cuh"
#include "variants/flash/flash_mma_backward.cuh"

namespace attn {

inline int hopper_gradient_width(const Problem& p) { return p.head_dim > 64 || p.value_dim > 64 ? 128 : 64; }
inline int hopper_gradient_queries(const Problem& p) {
  return hopper_gradient_queries(hopper_gradient_width(p));
}

/// As far as the problem says; the GPU is another matter.
inline Support hopper_gradient_supports(const Problem& p) {
  if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
  if (p.head_dim > 128 || p.value_dim > 128) return {"backward: d and dv at most 128"};
  if (p.head_dim % 8 != 0 || p.value_dim % 8 != 0) return {"d and dv multiples of 8, as TMA reads them"};
  if (p.position.kind != PositionKind::none && p.position.kind != PositionKind::alibi)
    return {"backward: no position but ALiBi"};
  if (p.seq_q >= HopperGradientTiles::kLongest || p.seq_kv >= HopperGradientTiles::kLongest) {
    return {"backward: fewer than 2^29 queries and keys"};
  }
  if (flash_mma_backward_blocks(p) > INT32_MAX) return {"more than 2^31 - 1 thread blocks"};
  return {};
}

inline GradientKind hopper_gradient_kind(const Problem& p) {
  if (p.softcap != 0) return GradientKind::capped;
  return p.position.kind == PositionKind::alibi ? GradientKind::alibi : GradientKind::plain;
}

/// What flash/cuda/mma takes comes first: tensors that TMA does not accept go there.
struct FlashHopperBackwardScratch : FlashMmaBackwardScratch {
  HopperQuerySums sums;
  HopperGradientVisits visits;

  static FlashHopperBackwardScratch take(const Problem& p, Workspace& workspace) {
    const int queries = hopper_gradient_queries(p);
    FlashHopperBackwardScratch scratch{FlashMmaBackwardScratch::take(p, workspace)};
    scratch.sums = HopperQuerySums::take(p, queries, workspace);
    scratch.visits = HopperGradientVisits::take(p, HopperGradientTiles::kKeys, queries, workspace);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    FlashScratch::prepare(queue, p);
    visits.prepare(queue, p, HopperGradientTiles::kKeys, hopper_gradient_queries(p));
  }
};

/// Maps of some rows of [batch, seq, heads, width]; where there are none, of one that is never read.
/// make_map(tensor, shape): with boxes of 64 rows.
template <class Void, class MakeMap>
TensorMap hopper_rows_map(BasicTensor<Void> tensor, const Problem& p, const TileRange& rows, int64_t heads,
                          int64_t width, MakeMap make_map) {
  using Byte = std::conditional_t<std::is_const_v<Void>, const char, char>;
  if (rows.first < rows.last)
    tensor.data = static_cast<Byte*>(tensor.data) + 2 * tensor.seq_stride * rows.first;
  return make_map(tensor, TensorShape{p.batch, std::max(rows.last - rows.first, int64_t{1}), heads, width});
}

/// The angles of operands that hold rotated rows, whose gradients are rotated back.
struct HopperBackwardRope {
  HopperRope q, k;
};

template <class MakeMap>
HopperGradientArgs hopper_gradient_args(const Problem& p, const Backward& backward,
                                        const FlashHopperBackwardScratch& scratch, MakeMap make_map,
                                        const HopperRope& rope) {
  HopperGradientTiles tiles = HopperGradientTiles::of(p.batch, p.heads_q, p.heads_kv, p.seq_q, p.mask_rule(),
                                                      hopper_gradient_queries(p));
  const TileRange queries = tiles.seeing_queries(), keys = tiles.seen_keys(), all{0, p.seq_kv};
  tiles.rule = scratch.mask.rule(p);
  tiles.visits = scratch.visits;
  return {.q = hopper_rows_map(backward.q, p, queries, p.heads_q, p.head_dim, make_map),
          .d_o = hopper_rows_map(backward.d_o, p, queries, p.heads_q, p.value_dim, make_map),
          .k = hopper_rows_map(backward.k, p, keys, p.heads_kv, p.head_dim, make_map),
          .v = hopper_rows_map(backward.v, p, keys, p.heads_kv, p.value_dim, make_map),
          .d_k = hopper_rows_map(backward.d_k, p, all, p.heads_kv, p.head_dim, make_map),
          .d_v = hopper_rows_map(backward.d_v, p, all, p.heads_kv, p.value_dim, make_map),
          .tiles = tiles,
          .first_query = queries.first < queries.last ? static_cast<int>(queries.first) : 0,
          .first_key = keys.first < keys.last ? static_cast<int>(keys.first) : 0,
          .heads_q = static_cast<int>(p.heads_q),
          .scale = static_cast<float>(p.softmax_scale()),
          .softcap = static_cast<float>(p.softcap),
          .slopes = scratch.bias.slopes(),
          .queries = scratch.queries,
          .sums = scratch.sums,
          .rope = rope};
}

template <class T, GradientKind kKind, class Launch>
void launch_hopper_gradient(const Problem& p, const HopperGradientArgs& args, const Launch& launch) {
  if (hopper_gradient_width(p) == 64) {
    launch(FlashHopperGradient<T, 64, kKind>{args}, args.tiles.blocks());
  } else {
    launch(FlashHopperGradient<T, 128, kKind>{args}, args.tiles.blocks());
  }
}

/// launch(body, count): the thread block so many times.
template <class T, class Queue, class MakeMap, class Launch>
void flash_hopper_backward(const Queue& queue, const Problem& p, const Backward& backward,
                           const FlashHopperBackwardScratch& scratch, MakeMap make_map, Launch launch,
                           const HopperBackwardRope& rope = {}) {
  queue.for_each(scratch.sums.tiles + 1, ClearCounters{scratch.sums.counters});
  const auto fill = [&](auto rows) { queue.blocks(rows.blocks(p), rows); };
  const auto o = gpu_tensor<const T>(backward.o), d_o = gpu_tensor<const T>(backward.d_o);
  if (p.value_dim <= 64) {
    fill(FillQueryRows<T, 8, true>{o, d_o, backward.lse, scratch.queries, p.heads_q, p.seq_q, p.value_dim});
  } else {
    fill(FillQueryRows<T, 16, true>{o, d_o, backward.lse, scratch.queries, p.heads_q, p.seq_q, p.value_dim});
  }
  if (p.seq_kv > 0) {
    const HopperGradientArgs args = hopper_gradient_args(p, backward, scratch, make_map, rope.k);
    switch (hopper_gradient_kind(p)) {
      case GradientKind::plain:
        launch_hopper_gradient<T, GradientKind::plain>(p, args, launch);
        break;
      case GradientKind::alibi:
        launch_hopper_gradient<T, GradientKind::alibi>(p, args, launch);
        break;
      case GradientKind::capped:
        launch_hopper_gradient<T, GradientKind::capped>(p, args, launch);
    }
  }
  const int tile = hopper_gradient_queries(p);
  const auto finish = [&](auto store) {
    store = {scratch.sums,
             gpu_tensor<T>(backward.d_q),
             static_cast<float>(p.softmax_scale()),
             static_cast<int>(p.heads_q),
             static_cast<int>((p.seq_q + tile - 1) / tile),
             static_cast<int>(p.seq_q),
             static_cast<int>(p.head_dim),
             tile == 64,
             rope.q};
    queue.for_each(store.count(), store);
  };
  if (rope.q) {
    finish(StoreQueryGradient<T, true>{});
  } else {
    finish(StoreQueryGradient<T, false>{});
  }
}

/// What the kernels execute: whole tiles, visible or not, over padded channels.
inline Cost flash_hopper_backward_cost(const Problem& p) {
  const int width = hopper_gradient_width(p), queries = hopper_gradient_queries(p);
  constexpr int kKeys = HopperGradientTiles::kKeys;
  const double tiles =
      static_cast<double>(p.heads_q) * static_cast<double>(count_seeing_tiles(p, kKeys, queries));
  const double pairs = tiles * kKeys * queries;
  const double rows_q = static_cast<double>(p.heads_q * p.batch * p.seq_q);
  const double rows_kv = static_cast<double>(p.heads_kv * p.batch * p.seq_kv);
  const auto channels = static_cast<double>(p.head_dim + p.value_dim);
  Cost cost;
  cost.flops_executed = 2 * 5 * width * pairs;
  cost.exps = pairs;
  cost.bytes_moved = 2 * 2 * channels * rows_kv                            // K, V and their gradients
                     + tiles * queries * (2 * channels + 4.0 * width)      // Q, dO; dQ added up
                     + rows_q * (4 * static_cast<double>(p.value_dim) + 4  // O, dO, LSE for D
                                 + 4.0 * width + 2 * static_cast<double>(p.head_dim));  // dQ
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = "O(n d)";
  return cost;
}

}  // namespace attn
