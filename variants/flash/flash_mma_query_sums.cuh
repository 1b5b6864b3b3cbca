#pragma once
// dQ beside dK and dV, in the kernel over keys (GradientOf::all): each block adds dS K of its keys to float32
// sums in memory, after which a pass scales and rounds them. Blocks add in any order: the last bits of dQ
// differ from run to run.
//
// dS of all warps meets in shared memory, as keys by queries, and is read transposed. The sums lie in memory
// as the lanes hold them: a lane adds 16 bytes, a warp 512 in one piece.

#include "variants/common/mma_products.cuh"
#include "variants/flash/flash_mma_gradient_args.cuh"

namespace attn {

/// Of a tile of queries [kColumns, kWidth], a warp takes 32 queries and some channels.
template <int kWidth>
struct FlashMmaQuerySums {
  static constexpr int kRows = flash_mma_gradient_rows(kWidth, false, GradientOf::all);
  static constexpr int kColumns = flash_mma_gradient_columns(kWidth, GradientOf::all);
  static constexpr int kWarps = flash_mma_gradient_warps(kWidth, GradientOf::all);
  static constexpr int kRowTiles = 2;
  static constexpr int kRowSplits = kColumns >= 32 ? kColumns / 32 : 1;
  static constexpr int kChannelSplits = kWarps / kRowSplits;
  static constexpr int kChannels = kWidth / kChannelSplits;
  static constexpr int kChannelTiles = kChannels / 8;
  static constexpr int kTileFloats = kColumns * kWidth;
  /// dS lies in rows of 64 numbers, as the swizzle wants them: where kColumns is 32, two keys share one.
  static constexpr int kWeightRows = kRows * kColumns / 64;

  /// Floats from the start of a tile's sums to the four of a lane's accumulator [m][n].
  ATTN_HOST_DEVICE static constexpr int first_of(int warp, int lane, int m, int n) {
    return (((warp * kRowTiles + m) * kChannelTiles + n) * kWarpLanes + lane) * 4;
  }
  /// To one sum; those of an even channel and the next one are neighbours.
  ATTN_HOST_DEVICE static constexpr int place_of(int query, int channel) {
    const int warp = query / 32 * kChannelSplits + channel / kChannels;
    const int lane = query % 8 * 4 + channel % 8 / 2;
    return first_of(warp, lane, query % 32 / 16, channel % kChannels / 8) + query % 16 / 8 * 2 + channel % 2;
  }
  static int64_t count(const Problem& p) { return p.batch * p.heads_q * QueryRows::length_of(p) * kWidth; }

  /// dS of the warp's keys to shared memory.
  template <class Body, class Warp>
  ATTN_DEVICE static void keep(Warp& warp, char* shared) {
    using T = typename Body::Element;
    T* weights = reinterpret_cast<T*>(shared + Body::kWeights);
    const int index = recomputed(warp.index());
    warp.each([=](int lane, typename Body::Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < Body::kThreadRows; ++r) {
        const int key = Body::row_of(index, lane, r);
        ATTN_UNROLL
        for (int n = 0; n < Body::kColumnTiles; ++n) {
          const float* pair = state.d[r / 2][n] + r % 2 * 2;
          const int chunk = key / kWeightRows * (kColumns / 8) + n;
          store_pair(weights + Tile16<T, 64>::offset(key % kWeightRows, chunk) + mma_c(lane, 0).column,
                     pair[0], pair[1]);
        }
      }
    });
  }

  /// Adds dS K to the sums. In partial tiles K may hold NaN or infinity in keys that some queries do not see;
  /// what they do see reaches them through dS.
  template <bool kPartial, class Body, class Warp, class Place, class Step>
  ATTN_DEVICE static void add(const Body& body, Warp& warp, const Place& place, Step step,
                              const char* shared) {
    using T = typename Body::Element;
    using Thread = typename Body::Thread;
    using Tile = Tile16<T, kWidth>;
    using Weights = Tile16<T, 64>;
    const T* keys = reinterpret_cast<const T*>(shared);
    const T* weights = reinterpret_cast<const T*>(shared + Body::kWeights);
    const int index = recomputed(warp.index());
    const int row_split = index / kChannelSplits, channel_split = index % kChannelSplits;
    warp.each([](int, Thread& state) { Body::clear(state.by_queries); });
    ATTN_UNROLL
    for (int k = 0; k < kRows; k += 16) {
      typename Warp::template Lanes<Matrices> a[kRowTiles];
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        a[m] = warp.template load_matrices<true>(
            weights,
            [=](int lane) {
              const Chunk at = chunk_of_b(lane);  // of A transposed: its rows are columns of the tile
              return Weights::offset(at.row, 4 * row_split, at.chunk);
            },
            Weights::kElements * (k / kWeightRows * (kColumns / 8) + 2 * m), k % kWeightRows * 64);
      }
      ATTN_UNROLL
      for (int n = 0; n < kChannelTiles; n += 2) {
        auto b = warp.template load_matrices<true>(
            keys,
            [=](int lane) {
              const Chunk at = chunk_of_b_transposed(lane);
              return Tile::offset(at.row, kChannelTiles * channel_split, at.chunk);
            },
            Tile::kElements * n, k * kWidth);
        if constexpr (kPartial) b = warp.make([=](int lane, Thread&) { return Tile::cleaned(b[lane]); });
        ATTN_UNROLL
        for (int m = 0; m < kRowTiles; ++m) {
          ATTN_UNROLL
          for (int half = 0; half < 2; ++half) {
            warp.template multiply<T>(
                [=](Thread& state) -> Accumulator& { return state.by_queries[m][n + half]; }, a[m], b, half);
          }
        }
      }
    }
    const int head = place.column_head + step.head;
    float* sums =
        body.args.query_sums +
        body.args.queries.at(place.b, body.args.heads_q, head, int64_t{step.tile} * kColumns) * kWidth;
    warp.each([=](int lane, Thread& state) {
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          add_to_memory(sums + first_of(index, lane, m, n), state.by_queries[m][n]);
        }
      }
    });
  }
};

struct ClearSums {
  float* sums;
  ATTN_DEVICE void operator()(int64_t k) const { reinterpret_cast<Float4*>(sums)[k] = {0, 0, 0, 0}; }
};

/// dQ out of the sums: a block a tile.
template <class T, int kWidth>
struct FinishQuerySums {
  using Sums = FlashMmaQuerySums<kWidth>;
  static constexpr int kThreads = 128;
  static constexpr int kMinBlocks = 8;
  static constexpr size_t shared_bytes() { return 0; }
  struct Thread {};

  const float* sums;
  Operand16<T> d_q;
  QueryRows queries;
  int64_t heads_q, seq_q;
  float scale;

  static int64_t blocks(const Problem& p) { return Sums::count(p) / Sums::kTileFloats; }

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float*) const {
    const int64_t tiles = queries.length / Sums::kColumns, head = index / tiles;
    const int64_t b = head / heads_q, h = head % heads_q, i0 = index % tiles * Sums::kColumns;
    const float* from = sums + index * Sums::kTileFloats;
    block.each([=, this](auto&, int thread, Thread&) {
      constexpr int kChunks = kWidth / 8;
      ATTN_UNROLL_4
      for (int k = thread; k < Sums::kColumns * kChunks; k += kThreads) {
        const int query = k / kChunks, channel = k % kChunks * 8;
        if (i0 + query >= seq_q || channel >= d_q.width) continue;
        Words words;
        ATTN_UNROLL
        for (int c = 0; c < 4; ++c) {
          const Float2 pair = *reinterpret_cast<const Float2*>(from + Sums::place_of(query, channel + 2 * c));
          words.of[c] = pack<T>(pair.x * scale, pair.y * scale);
        }
        T* to = d_q.tensor.row(b, i0 + query, h) + channel;
        if (d_q.aligned) {
          *reinterpret_cast<Words*>(to) = words;
          continue;
        }
        ATTN_UNROLL
        for (int e = 0; e < 8; ++e) {
          if (channel + e < d_q.width) to[e] = half_of<T>(words.of[e / 2], e % 2);
        }
      }
    });
  }
};

}  // namespace attn
