#pragma once
// From a problem to the arguments of the Hopper rungs: which instance and tiles, scratch, maps, cost. Nothing
// here needs CUDA.

#include <bit>

#include "variants/flash/decode_merge.cuh"
#include "variants/flash/flash_hopper.cuh"
#include "variants/flash/flash_mma_forward.cuh"

namespace attn {

inline HopperKind hopper_kind(const Problem& p) {
  if (p.position.shaw()) return HopperKind::shaw;
  if (p.softcap != 0 || p.softmax_scale() < 0) return HopperKind::capped;
  if (p.position.toeplitz()) return HopperKind::biased;
  return p.mask.none() ? HopperKind::plain : HopperKind::masked;
}

/// How a problem is cut into tiles, and by an instance of which width.
struct HopperTiles : HopperTiling {
  int width;
  // More than one only in instances of the kind `packed`:
  int pack = 1;    ///< heads whose rows share a tile
  int splits = 1;  ///< of the keys of a row of tiles

  HopperTiles(int padded, HopperTiling tiling, int heads = 1)
      : HopperTiling(tiling), width(padded), pack(heads) {}
  static HopperTiles of(int width, HopperKind kind, int heads = 1) {
    return {width, hopper_tiling(width, kind), heads};
  }

  HopperTiles smaller() const { return {width, hopper_smaller(*this), pack}; }
  bool packed() const { return pack > 1 || splits > 1; }

  /// Rows of tiles, of all heads and batch entries.
  int64_t rows_of_tiles(const Problem& p) const { return flash_blocks(p, rows() / pack) / pack; }
  /// Tiles that they visit.
  int64_t visits(const Problem& p) const {
    return count_visited_tiles(p, rows() / pack, keys) * (p.heads_q / pack);
  }
};
/// By an instance of a kind, not packed.
inline HopperTiles hopper_tiles_of(const Problem& p, HopperKind kind) {
  const bool wide_keys = p.head_dim > 128 && p.head_dim <= 192 && p.value_dim <= 128;
  return HopperTiles::of(wide_keys && hopper_has_wide_keys(kind) ? 192 : flash_mma_width(p), kind);
}
inline HopperTiles hopper_tiles_of(const Problem& p) { return hopper_tiles_of(p, hopper_kind(p)); }
inline HopperTiles hopper_packed_tiles(const Problem& p) {
  return HopperTiles::of(flash_mma_width(p), HopperKind::packed, hopper_pack(p.group()));
}

/// What HopperTiles come to, however many splits there are; counting takes a while.
struct HopperWork {
  double rows, visits;  ///< rows of tiles; tiles that they visit

  static HopperWork of(const Problem& p, const HopperTiles& tiles) {
    return {static_cast<double>(tiles.rows_of_tiles(p)), static_cast<double>(tiles.visits(p))};
  }
};

/// Time of the forward in tiles of two warpgroups, one after the other on each multiprocessor. On an H200 a
/// tile of three warpgroups (d = 64) takes 1.25 times as long as one of two, a tile of one 0.83 times.
inline double hopper_time(const HopperWork& work, const HopperTiles& tiles, int64_t multiprocessors) {
  constexpr double kTimeOfTile[] = {0.83, 1, 1.25};
  constexpr double kPriceOfSplits = 2;  ///< of filling the pipeline, of writing and of merging
  double rounds = work.rows * tiles.splits / static_cast<double>(multiprocessors);
  if (rounds < 4) rounds = std::ceil(rounds);  // then no short row fills the gaps
  double each = work.visits / work.rows;
  if (tiles.splits > 1) each = std::ceil(each / tiles.splits) + kPriceOfSplits;
  return rounds * each * kTimeOfTile[tiles.consumers - 1];
}
/// Not tried under a block mask.
inline bool hopper_may_be_smaller(const Problem& p) {
  return hopper_has_smaller(hopper_tiles_of(p).width, hopper_kind(p)) && !p.mask.has_blocks();
}
inline bool hopper_may_be_packed(const Problem& p) {
  return hopper_kind(p) <= HopperKind::masked && !p.mask.has_blocks();
}
struct HopperChoice {
  HopperTiles tiles;
  double time;  ///< hopper_time()
};
inline HopperChoice hopper_choice(const Problem& p, const HopperTiles& tiles, int64_t multiprocessors) {
  return {tiles, hopper_time(HopperWork::of(p, tiles), tiles, multiprocessors)};
}
/// Packed, and with so many splits as seem best.
inline HopperChoice hopper_best_packed(const Problem& p, int64_t multiprocessors) {
  HopperTiles tiles = hopper_packed_tiles(p);
  const HopperWork work = HopperWork::of(p, tiles);
  const double parts = std::min(2 * static_cast<double>(multiprocessors), work.visits);
  HopperChoice best{tiles, hopper_time(work, tiles, multiprocessors)};
  for (tiles.splits = 2; tiles.splits * work.rows <= parts; ++tiles.splits) {
    const double time = hopper_time(work, tiles, multiprocessors);
    if (time < best.time) best = {tiles, time};
  }
  return best;
}
/// The fastest one for short sequences, where rows of tiles are few or many of their tiles partial.
inline HopperTiles hopper_best_tiles(const Problem& p, int64_t multiprocessors) {
  constexpr int64_t kShort = 4096;  // beyond, the larger tiles win, and counting takes longer than it saves
  constexpr int64_t kFew = 1024;    // beyond, tiles of one head are full but for a tenth
  constexpr double kClearly = 0.9;  // packed tiles have not been measured
  const HopperTiles large = hopper_tiles_of(p);
  const bool packed = p.seq_q <= kFew && hopper_may_be_packed(p);
  if (p.seq_q > kShort || p.seq_q == 0 || !(hopper_may_be_smaller(p) || packed)) return large;
  HopperChoice best = hopper_choice(p, large, multiprocessors);
  if (hopper_may_be_smaller(p)) {
    const HopperChoice small = hopper_choice(p, large.smaller(), multiprocessors);
    if (small.time < best.time) best = small;
  }
  if (packed) {
    const HopperChoice few = hopper_best_packed(p, multiprocessors);
    if (few.tiles.packed() && few.time < kClearly * best.time) best = few;
  }
  return best.tiles;
}

struct HopperScratch : FlashMmaScratch {
  HopperTiles tiles;
  TileVisits visits;
  unsigned* taken = nullptr;
  float* partial_o = nullptr;  ///< these three: where the keys are split, as FlashHopperArgs
  Float2* partial_rl = nullptr;
  int32_t* starts = nullptr;  // [batch + 1]: splits of a batch entry

  static HopperScratch take(const Problem& p, Workspace& workspace) {
    return take(p, workspace, hopper_tiles_of(p));
  }
  static HopperScratch take(const Problem& p, Workspace& workspace, const HopperTiles& tiles) {
    const HopperBiasEnds ends = HopperBiasEnds::of(p, tiles);
    HopperScratch scratch{{}, tiles};
    scratch.mask = DeviceMask::take(p, workspace);
    scratch.bias = DeviceBias::take(p, workspace, ends.front, ends.back);
    scratch.visits = TileVisits::take(p, tiles.rows(), tiles.keys, workspace);
    scratch.shaw = DeviceShaw::take(p, workspace);
    scratch.taken = workspace.take<unsigned>("rows of tiles taken", 1);
    if (tiles.splits == 1) return scratch;
    const int64_t rows = tiles.splits * p.batch * p.heads_q * p.seq_q;
    scratch.partial_o = workspace.take<float>("partial o", rows * p.value_dim);
    scratch.partial_rl = workspace.take<Float2>("partial references and sums", rows);
    scratch.starts = workspace.take<int32_t>("first splits", p.batch + 1);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    FlashScratch::prepare(queue, p);
    visits.prepare(queue, p, tiles.rows(), tiles.keys);
    const unsigned none = 0;
    queue.upload(taken, &none, sizeof(none));
    if (!starts) return;
    std::vector<int32_t> first;
    for (int64_t b = 0; b <= p.batch; ++b) first.push_back(static_cast<int32_t>(b * tiles.splits));
    queue.upload(starts, first.data(), first.size() * sizeof(int32_t));
  }
};

/// Enqueues what is left to do with the splits of the keys.
template <class T, class Queue>
void hopper_merge(const Queue& queue, const Problem& p, const Forward& forward,
                  const HopperScratch& scratch) {
  if (scratch.tiles.splits == 1) return;
  const auto o = gpu_tensor<T>(forward.o);
  const auto number = [](int64_t count) { return static_cast<int>(count); };
  const DecodeResult<T> result{o,
                               o.aligned(p.value_dim),
                               forward.lse,
                               number(p.heads_kv),
                               number(p.group()),
                               number(p.seq_q),
                               number(p.value_dim),
                               scratch.partial_o,
                               &scratch.partial_rl->x,
                               number(p.value_dim)};
  queue.blocks(p.batch * p.heads_q * p.seq_q, DecodeMerge<T>{result, scratch.starts});
}

inline TensorShape hopper_q_shape(const Problem& p) { return {p.batch, p.seq_q, p.heads_q, p.head_dim}; }
inline TensorShape hopper_k_shape(const Problem& p) { return {p.batch, p.seq_kv, p.heads_kv, p.head_dim}; }
inline TensorShape hopper_v_shape(const Problem& p) { return {p.batch, p.seq_kv, p.heads_kv, p.value_dim}; }
inline TensorShape hopper_o_shape(const Problem& p) { return {p.batch, p.seq_q, p.heads_q, p.value_dim}; }

inline bool hopper_strides(const Problem& p, const Forward& forward) {
  if (!tma_accepts(forward.q, hopper_q_shape(p)) || !tma_accepts(forward.o, hopper_o_shape(p))) return false;
  return p.seq_kv == 0 ||
         (tma_accepts(forward.k, hopper_k_shape(p)) && tma_accepts(forward.v, hopper_v_shape(p)));
}

/// Enqueues the biases too; Shaw terms are the caller's. make_map(tensor, shape, rows of a box, its heads)
/// returns a TensorMap.
template <class T, class Queue, class MakeMap>
FlashHopperArgs<T> hopper_args(const Queue& queue, const Problem& p, const Forward& forward,
                               const HopperScratch& scratch, const MakeMap& make_map,
                               const HopperTiles& tiles) {
  FlashHopperArgs<T> args{{FlashShape::of(p, scratch.mask.rule(p)), scratch.visits}};
  const int pack = tiles.pack;
  args.q_map = make_map(forward.q, hopper_q_shape(p), 64 / pack, pack);
  if (p.seq_kv > 0) {  // no map is made of an empty tensor, and none is used
    args.k_map = make_map(forward.k, hopper_k_shape(p), tiles.keys, 1);
    args.v_map = make_map(forward.v, hopper_v_shape(p), tiles.keys, 1);
  }
  args.o_map = make_map(forward.o, hopper_o_shape(p), 16 / pack, pack);
  args.q = gpu_tensor<const T>(forward.q);
  args.k = gpu_tensor<const T>(forward.k);
  args.v = gpu_tensor<const T>(forward.v);
  args.lse = forward.lse;
  args.head_dim = static_cast<int>(p.head_dim);
  args.value_dim = static_cast<int>(p.value_dim);
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.bias.fill(queue, p, forward.tables, kLog2e);
  args.schedule = HopperSchedule::of(p, tiles.rows(), pack, tiles.splits);
  args.taken = scratch.taken;
  args.pack_shift = std::countr_zero(static_cast<unsigned>(pack));
  args.splits = tiles.splits;
  args.partial_o = scratch.partial_o;
  args.partial_rl = scratch.partial_rl;
  return args;
}

/// What the kernels execute: whole tiles, visible or not, over padded channels; Shaw terms before.
inline Cost hopper_cost(const Problem& p, const HopperTiles& tiling) {
  const int width = tiling.width, keys = tiling.keys, rows = tiling.rows();
  const auto tiles = static_cast<double>(tiling.visits(p));
  const double pairs = tiles * rows * keys, queries = static_cast<double>(p.heads_q * p.batch * p.seq_q);
  const auto channels = static_cast<double>(p.head_dim + p.value_dim);
  Cost cost;
  cost.flops_executed = 2 * (width + hopper_value_width(width)) * pairs;
  cost.exps = pairs;
  cost.bytes_moved = 2 * channels * (queries + tiles * keys) + 4 * queries;
  if (tiling.splits > 1)  // what they leave, written and read
    cost.bytes_moved += 2 * 4 * tiling.splits * queries * static_cast<double>(p.value_dim + 2);
  add_shaw_keys(cost, p, width);
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = p.position.shaw() ? "O(n k)" : "O(n)";
  return cost;
}

}  // namespace attn
