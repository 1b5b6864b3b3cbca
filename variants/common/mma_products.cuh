#pragma once
// Products of a warp's rows with a tile, on tensor cores: the accumulators and, in a second product, the
// weights stand in the lanes' registers, the other operands in swizzled tiles (tile16.cuh).

#include "variants/common/tile16.cuh"
#include "variants/common/warp.cuh"

namespace attn {

using Accumulator = float[4];  ///< a [16, 8] result, a lane's part
template <int kRowTiles, int kColumnTiles>
using Accumulators = Accumulator[kRowTiles][kColumnTiles];

/// state.*to = A B^T: A is rows [16 kRowTiles, kWidth] of the warp, B a tile [8 kColumnTiles, kWidth].
template <class T, int kWidth, int kRowTiles, int kColumnTiles, class Warp, class Thread>
ATTN_DEVICE void multiply_tiles(Warp& warp, const T* rows, const T* columns,
                                Accumulators<kRowTiles, kColumnTiles> Thread::*to) {
  using Tile = Tile16<T, kWidth>;
  warp.each([=](int, Thread& state) {
    ATTN_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      ATTN_UNROLL
      for (int n = 0; n < kColumnTiles; ++n) {
        ATTN_UNROLL
        for (int e = 0; e < 4; ++e) (state.*to)[m][n][e] = 0;
      }
    }
  });
  ATTN_UNROLL
  for (int step = 0; step < kWidth / 16; ++step) {
    typename Warp::template Lanes<Matrices> a[kRowTiles];
    ATTN_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      a[m] = warp.template load_matrices<false>([=](int lane) {
        const Chunk at = chunk_of_a(lane);
        return rows + Tile::offset(16 * m + at.row, 2 * step + at.chunk);
      });
    }
    ATTN_UNROLL
    for (int n = 0; n < kColumnTiles; n += 2) {
      const auto b = warp.template load_matrices<false>([=](int lane) {
        const Chunk at = chunk_of_b(lane);
        return columns + Tile::offset(8 * n + at.row, 2 * step + at.chunk);
      });
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        ATTN_UNROLL
        for (int half = 0; half < 2; ++half) {
          warp.template multiply<T>([=](Thread& state) -> Accumulator& { return (state.*to)[m][n + half]; },
                                    a[m], b, half);
        }
      }
    }
  }
}

/// state.*to += W B: W is state.*weights [16 kRowTiles, 8 kColumnTiles] rounded to T, B a tile
/// [8 kColumnTiles, kWidth].
template <class T, int kWidth, int kRowTiles, int kColumnTiles, class Warp, class Thread>
ATTN_DEVICE void add_weighted_tile(Warp& warp, Accumulators<kRowTiles, kColumnTiles> Thread::*weights,
                                   const T* columns, Accumulators<kRowTiles, kWidth / 8> Thread::*to) {
  using Tile = Tile16<T, kWidth>;
  ATTN_UNROLL
  for (int step = 0; step < kColumnTiles / 2; ++step) {
    typename Warp::template Lanes<Matrices> a[kRowTiles];
    ATTN_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      a[m] = warp.make([=](int, Thread& state) {
        Matrices packed;
        ATTN_UNROLL
        for (int r = 0; r < 4; ++r) {
          const WeightPair from = weights_of_a(r);
          const float* pair = (state.*weights)[m][2 * step + from.tile] + from.first;
          packed.of[r] = pack<T>(pair[0], pair[1]);
        }
        return packed;
      });
    }
    ATTN_UNROLL
    for (int n = 0; n < kWidth / 8; n += 2) {
      const auto b = warp.template load_matrices<true>([=](int lane) {
        const Chunk at = chunk_of_b_transposed(lane);
        return columns + Tile::offset(16 * step + at.row, n + at.chunk);
      });
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        ATTN_UNROLL
        for (int half = 0; half < 2; ++half) {
          warp.template multiply<T>([=](Thread& state) -> Accumulator& { return (state.*to)[m][n + half]; },
                                    a[m], b, half);
        }
      }
    }
  }
}

}  // namespace attn
