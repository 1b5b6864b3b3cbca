#pragma once
// The thread block of flash/cuda/decode: the at most 16 query rows that share a key/value head (seq_q times
// the group) against the tiles of one split of the keys (decode_split.h).
//
// The rows fill one tile of m16n8k16, so that every key and value is read once for all of them. Memory is
// what takes the time: K and V stream through a ring of 3 or 4 stages in shared memory by cp.async, 48 to 64
// KiB on their way per block, one barrier a tile. Each warp has 16 keys of every tile to itself, with a
// maximum, sums and an O of its own: nothing passes between warps before the end, where the block adds its
// warps up in order and leaves O, reference and sum for decode_merge.cuh (or the result, where the keys are
// not split).
//
// Method: flash-decoding, Dao, Haziza, Massa and Sizov 2023; rows of grouped heads in one tile:
// FlashAttention-3. Measured effect: flash_cuda_decode.cu.

#include "variants/flash/flash_decode_warp.cuh"

namespace attn {

/// A stage of 32 KiB (16 at width 64): K and V of a tile.
constexpr int flash_decode_keys(int width) { return width == 256 ? 32 : 64; }
constexpr int flash_decode_stages(int width) { return width == 64 ? 4 : 3; }

template <class T, int kWidth>
struct FlashDecode : FlashDecodeWarp<T, kWidth> {
  using Warps = FlashDecodeWarp<T, kWidth>;
  using Place = DecodePlace;
  using typename Warps::Thread;
  using typename Warps::Tile;
  using Warps::args, Warps::kWarpKeys, Warps::kThreadRows, Warps::kChannelTiles, Warps::row_of,
      Warps::rule_of;
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 256, "tiles are chosen for these widths");
  static constexpr int kKeys = flash_decode_keys(kWidth);
  static constexpr int kWarps = kKeys / kWarpKeys;
  static constexpr int kThreads = kWarps * kWarpLanes;
  static constexpr int kMinBlocks = kWidth == 64 ? 3 : 2;
  static constexpr int kStages = flash_decode_stages(kWidth);
  static constexpr int kStage = 2 * kKeys * kWidth;  ///< elements

  static constexpr size_t shared_bytes() { return (kStages * kStage + kDecodeRows * kWidth) * sizeof(T); }

  // At the end the ring holds the warps' O, rows a multiple of 32 banks and 8 apart: a warp writes without
  // conflicts. Then the rows' references and sums.
  static constexpr int kSumStride = kWidth + 8;
  static constexpr int kReferences = kWarps * kDecodeRows * kSumStride;
  static constexpr int kSums = kReferences + kWarps * kDecodeRows;
  static_assert((kSums + kWarps * kDecodeRows) * sizeof(float) <= kStages * kStage * sizeof(T));

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    const Place place = place_of(index);
    T* ring = reinterpret_cast<T*>(shared);
    T* queries = ring + kStages * kStage;
    block.each([](auto&, int, Thread& state) { Warps::start(state); });
    load_queries(block, place, queries);
    int64_t tile = next(place, place.first), ahead = tile;
    for (int stage = 0; stage < kStages - 1; ++stage) ahead = load_stage(block, place, ahead, ring, stage);
    wait(block);
    block.sync();
    if constexpr (Warps::kHoldsQueries) {
      block.each_warp([=](auto& warp) { Warps::hold_queries(warp, queries); });
    }
    int stage = 0;
    while (tile < place.last) {
      wait(block);
      block.sync();  // the tile is here; the one before is no longer read
      ahead = load_stage(block, place, ahead, ring, stage == 0 ? kStages - 1 : stage - 1);
      T* keys = ring + stage * kStage;
      const int64_t j0 = place.range.begin + tile * kKeys;
      block.each_warp([=, this](auto& warp) {
        const int first = warp.index() * kWarpKeys;
        this->visit(warp, place, j0 + first, queries, keys + first * kWidth, keys + (kKeys + first) * kWidth);
      });
      tile = next(place, tile + 1);
      stage = stage == kStages - 1 ? 0 : stage + 1;
    }
    block.sync();  // the ring is no longer read
    add_warps(block, shared);
    block.each([=, this](auto&, int thread, Thread&) { write(index, place, thread, shared); });
  }

 private:
  ATTN_DEVICE Place place_of(int64_t index) const {
    const auto heads = static_cast<uint32_t>(args.heads_kv);  // 32 bits divide faster
    const DecodeSplit split = args.splits[static_cast<uint32_t>(index) / heads];
    Place place;
    place.b = split.b;
    place.head_kv = static_cast<int>(static_cast<uint32_t>(index) % heads);
    place.first = split.first;
    place.last = split.last;
    place.keys = args.rule.key_length(place.b);
    place.range = decode_range(rule_of(place), args.seq_q);
    return place;
  }
  ATTN_DEVICE int64_t next(const Place& place, int64_t tile) const {
    return next_decode_tile(rule_of(place), args.seq_q, place.range, kKeys, tile, place.last);
  }
  /// Rows that are not there become zeros: they cost nothing and are not written.
  template <class Block>
  ATTN_DEVICE void load_queries(Block& block, const Place& place, T* tile) const {
    block.each([=, this](auto& self, int thread, Thread&) {
      ATTN_ROLL
      for (int k = 0; k < kDecodeRows * Tile::kChunks / kThreads; ++k) {
        const Chunk at = Tile::template moved<kThreads>(thread, k);
        const bool there = at.row < args.rows() && 8 * at.chunk < args.head_dim;
        const int row = there ? at.row : 0;
        const T* source = args.q.row(place.b, args.query_of(row), args.head_of(place.head_kv, row));
        T* target = tile + Tile::offset(at.row, at.chunk);
        if (args.q_aligned) {
          self.copy_or_zero(reinterpret_cast<Float4*>(target), source + (there ? 8 * at.chunk : 0), there);
          continue;
        }
        ATTN_ROLL
        for (int e = 0; e < 8; ++e) {
          const int c = 8 * at.chunk + e;
          target[e] = there && c < args.head_dim ? source[c] : T{};
        }
      }
    });
  }

  /// Copies a tile into a stage, where there is one, as a group of its own. The next one.
  template <class Block>
  ATTN_DEVICE int64_t load_stage(Block& block, const Place& place, int64_t tile, T* ring, int stage) const {
    T* keys = ring + stage * kStage;
    if (tile < place.last) {
      const int64_t j0 = place.range.begin + tile * kKeys, count = place.range.end - j0;
      const TileRows<const T> k{args.k.row(place.b, j0, place.head_kv), args.k.seq_stride, count,
                                args.head_dim, args.k_aligned};
      const TileRows<const T> v{args.v.row(place.b, j0, place.head_kv), args.v.seq_stride, count,
                                args.value_dim, args.v_aligned};
      block.each([=](auto& self, int thread, Thread&) {
        Tile::template load<kKeys, kThreads>(self, thread, k, keys);
        Tile::template load<kKeys, kThreads>(self, thread, v, keys + kKeys * kWidth);
      });
      tile = next(place, tile + 1);
    }
    block.each([](auto& self, int, Thread&) { self.commit_copies(); });
    return tile;
  }
  /// The oldest of the kStages - 1 groups on their way is here.
  template <class Block>
  ATTN_DEVICE static void wait(Block& block) {
    block.each([](auto& self, int, Thread&) { self.template wait_groups<kStages - 2>(); });
  }

  /// O of all warps to shared memory, at one reference a row. An O is 0 where nothing was seen, so that no
  /// select is needed and NaN stays NaN.
  template <class Block>
  ATTN_DEVICE static void add_warps(Block& block, float* shared) {
    block.each_warp([=](auto& warp) {
      warp.template reduce<Sum, 4>(&Thread::sum);
      warp.each([=, &warp](int lane, Thread& state) {
        if (mma_c(lane, 0).column != 0) return;
        ATTN_UNROLL
        for (int r = 0; r < kThreadRows; ++r) {
          shared[kReferences + warp.index() * kDecodeRows + row_of(lane, r)] = state.reference[r];
          shared[kSums + warp.index() * kDecodeRows + row_of(lane, r)] = state.sum[r];
        }
      });
    });
    block.sync();
    block.each_warp([=](auto& warp) {
      warp.each([=, &warp](int lane, Thread& state) {
        ATTN_UNROLL
        for (int r = 0; r < kThreadRows; ++r) {
          const int row = row_of(lane, r);
          const float factor = decode_factor(state.reference[r], reference_of(row, shared));
          float* to = shared + (warp.index() * kDecodeRows + row) * kSumStride + mma_c(lane, 0).column;
          ATTN_UNROLL
          for (int n = 0; n < kChannelTiles; ++n) {
            *reinterpret_cast<Float2*>(to + 8 * n) = {state.o[n][2 * r] * factor,
                                                      state.o[n][2 * r + 1] * factor};
          }
        }
      });
    });
    block.sync();
  }
  ATTN_DEVICE static float reference_of(int row, const float* shared) {
    float highest = -INFINITY;
    ATTN_UNROLL
    for (int warp = 0; warp < kWarps; ++warp) {
      highest = fmaxf(highest, shared[kReferences + warp * kDecodeRows + row]);
    }
    return highest;
  }

  /// Four channels of a row at a time, warps added up in order.
  ATTN_DEVICE void write(int64_t index, const Place& place, int thread, const float* shared) const {
    constexpr int kFours = kWidth / 4;
    ATTN_ROLL
    for (int k = thread; k < kDecodeRows * kFours; k += kThreads) {
      const int row = k / kFours, c = k % kFours * 4;
      if (row >= args.rows() || c >= args.value_dim) continue;
      const float reference = reference_of(row, shared);
      Float4 o{};
      float sum = 0;
      ATTN_UNROLL
      for (int warp = 0; warp < kWarps; ++warp) {
        const int at = warp * kDecodeRows + row;
        add(o, 1, *reinterpret_cast<const Float4*>(shared + at * kSumStride + c));
        sum += decode_factor(shared[kReferences + at], reference) * shared[kSums + at];
      }
      if (args.partial_o) {
        args.write_partial(index * args.rows() + row, c, o, reference, sum);
      } else {
        args.write(place.b, place.head_kv, row, c, o, reference, sum);
      }
    }
  }
};

}  // namespace attn
