#pragma once
// From a problem to the arguments of the Hopper rungs: which instance and tiles, scratch, maps, cost. Nothing
// here needs CUDA.

#include "variants/flash/flash_hopper.cuh"
#include "variants/flash/flash_mma_forward.cuh"

namespace attn {

inline HopperKind hopper_kind(const Problem& p) {
  if (p.position.shaw()) return HopperKind::shaw;
  if (p.softcap != 0 || p.softmax_scale() < 0) return HopperKind::capped;
  if (p.position.toeplitz()) return HopperKind::biased;
  return p.mask.none() ? HopperKind::plain : HopperKind::masked;
}
inline HopperTiling hopper_tiling_of(const Problem& p) {
  return hopper_tiling(flash_mma_width(p), hopper_kind(p));
}

/// Time of the forward in tiles of two warpgroups, one after the other on each multiprocessor. On an H200 a
/// tile of three warpgroups (d = 64) takes 1.25 times as long as one of two, a tile of one 0.83 times.
inline double hopper_time(const Problem& p, HopperTiling tiling, int64_t multiprocessors) {
  constexpr double kTimeOfTile[] = {0.83, 1, 1.25};
  const auto rows = static_cast<double>(flash_blocks(p, tiling.rows()));
  const double tiles = static_cast<double>(count_visited_tiles(p, tiling.rows(), tiling.keys) * p.heads_q);
  double rounds = rows / static_cast<double>(multiprocessors);
  if (rounds < 4) rounds = std::ceil(rounds);  // then no short row fills the gaps
  return rounds * tiles / rows * kTimeOfTile[tiling.consumers - 1];
}
/// The table of visits is of the large tiles.
inline bool hopper_may_be_smaller(const Problem& p) {
  return hopper_has_smaller(flash_mma_width(p), hopper_kind(p)) && !p.mask.has_blocks();
}
/// The faster one of two for short sequences, where rows of tiles are few or many of their tiles partial.
inline HopperTiling hopper_best_tiling(const Problem& p, int64_t multiprocessors) {
  constexpr int64_t kShort = 4096;  // beyond, the larger tiles win, and counting takes longer than it saves
  const HopperTiling large = hopper_tiling_of(p);
  if (!hopper_may_be_smaller(p) || p.seq_q > kShort || p.seq_q == 0) return large;
  const HopperTiling small = hopper_smaller(large);
  return hopper_time(p, small, multiprocessors) < hopper_time(p, large, multiprocessors) ? small : large;
}

struct HopperScratch : FlashMmaScratch {
  TileVisits visits;  ///< of the large tiles
  unsigned* taken = nullptr;

  static HopperScratch take(const Problem& p, Workspace& workspace) {
    const HopperTiling tiling = hopper_tiling_of(p);
    const HopperBiasEnds ends = HopperBiasEnds::of(p, tiling);
    HopperScratch scratch;
    scratch.mask = DeviceMask::take(p, workspace);
    scratch.bias = DeviceBias::take(p, workspace, ends.front, ends.back);
    scratch.visits = TileVisits::take(p, tiling.rows(), tiling.keys, workspace);
    scratch.shaw = DeviceShaw::take(p, workspace);
    scratch.taken = workspace.take<unsigned>("rows of tiles taken", 1);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    FlashScratch::prepare(queue, p);
    const HopperTiling tiling = hopper_tiling_of(p);
    visits.prepare(queue, p, tiling.rows(), tiling.keys);
    const unsigned none = 0;
    queue.upload(taken, &none, sizeof(none));
  }
};

inline TensorShape hopper_q_shape(const Problem& p) { return {p.batch, p.seq_q, p.heads_q, p.head_dim}; }
inline TensorShape hopper_k_shape(const Problem& p) { return {p.batch, p.seq_kv, p.heads_kv, p.head_dim}; }
inline TensorShape hopper_v_shape(const Problem& p) { return {p.batch, p.seq_kv, p.heads_kv, p.value_dim}; }
inline TensorShape hopper_o_shape(const Problem& p) { return {p.batch, p.seq_q, p.heads_q, p.value_dim}; }

inline bool hopper_strides(const Problem& p, const Forward& forward) {
  if (!tma_accepts(forward.q, hopper_q_shape(p)) || !tma_accepts(forward.o, hopper_o_shape(p))) return false;
  return p.seq_kv == 0 ||
         (tma_accepts(forward.k, hopper_k_shape(p)) && tma_accepts(forward.v, hopper_v_shape(p)));
}

/// Enqueues the biases too; Shaw terms are the caller's. make_map(tensor, shape, rows of a box) returns a
/// TensorMap.
template <class T, class Queue, class MakeMap>
FlashHopperArgs<T> hopper_args(const Queue& queue, const Problem& p, const Forward& forward,
                               const HopperScratch& scratch, const MakeMap& make_map, HopperTiling tiling) {
  FlashHopperArgs<T> args{{FlashShape::of(p, scratch.mask.rule(p)), scratch.visits}};
  args.q_map = make_map(forward.q, hopper_q_shape(p), 64);
  if (p.seq_kv > 0) {  // no map is made of an empty tensor, and none is used
    args.k_map = make_map(forward.k, hopper_k_shape(p), tiling.keys);
    args.v_map = make_map(forward.v, hopper_v_shape(p), tiling.keys);
  }
  args.o_map = make_map(forward.o, hopper_o_shape(p), 16);
  args.q = gpu_tensor<const T>(forward.q);
  args.k = gpu_tensor<const T>(forward.k);
  args.v = gpu_tensor<const T>(forward.v);
  args.lse = forward.lse;
  args.head_dim = static_cast<int>(p.head_dim);
  args.value_dim = static_cast<int>(p.value_dim);
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.bias.fill(queue, p, forward.tables, kLog2e);
  args.schedule = HopperSchedule::of(p, tiling.rows());
  args.taken = scratch.taken;
  return args;
}

/// What the kernels execute: whole tiles, visible or not, over padded channels; Shaw terms before.
inline Cost hopper_cost(const Problem& p, HopperTiling tiling) {
  const int width = flash_mma_width(p), keys = tiling.keys, rows = tiling.rows();
  const double heads = static_cast<double>(p.heads_q),
               tiles = heads * static_cast<double>(count_visited_tiles(p, rows, keys)),
               pairs = tiles * rows * keys, queries = heads * static_cast<double>(p.batch * p.seq_q);
  const auto channels = static_cast<double>(p.head_dim + p.value_dim);
  Cost cost;
  cost.flops_executed = 2 * 2 * width * pairs;
  cost.exps = pairs;
  cost.bytes_moved = 2 * channels * (queries + tiles * keys) + 4 * queries;
  add_shaw_keys(cost, p, width);
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = p.position.shaw() ? "O(n k)" : "O(n)";
  return cost;
}

}  // namespace attn
