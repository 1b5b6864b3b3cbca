#pragma once
// Products of a warp's rows with a tile, on tensor cores: the accumulators and, in a second product, the
// weights stand in the lanes' registers, the other operands in swizzled tiles (tile16.cuh). T is Bf16, F16 or
// float (three products of tf32 numbers, warp.cuh).

#include "variants/common/tile16.cuh"
#include "variants/common/warp.cuh"

namespace attn {

using Accumulator = float[4];  ///< a [16, 8] result, a lane's part
template <int kRowTiles, int kColumnTiles>
using Accumulators = Accumulator[kRowTiles][kColumnTiles];

/// Rows of A, columns of B in one mma.
template <class T>
constexpr int kMmaDepth = 32 / sizeof(T);

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
  const auto multiply_step = [&](int step) {
    // two chunks a step; what the swizzle does to a lane's chunk repeats after eight
    const int flip = Tile::kElements * (2 * step % 8), further = Tile::kElements * (2 * step / 8 * 8);
    typename Warp::template Lanes<MmaOperand<T>> a[kRowTiles];
    ATTN_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      a[m] = warp.template operand<T>(warp.template load_matrices<false>(
          rows,
          [](int lane) {
            const Chunk at = chunk_of_a(lane);
            return Tile::offset(at.row, at.chunk);
          },
          flip, further + 16 * m * kWidth));
    }
    ATTN_UNROLL
    for (int n = 0; n < kColumnTiles; n += 2) {
      const auto b = warp.template operand<T>(warp.template load_matrices<false>(
          columns,
          [](int lane) {
            const Chunk at = chunk_of_b(lane);
            return Tile::offset(at.row, at.chunk);
          },
          flip, further + 8 * n * kWidth));
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        ATTN_UNROLL
        for (int half = 0; half < 2; ++half) {
          warp.template multiply<T>([=](Thread& state) -> Accumulator& { return (state.*to)[m][n + half]; },
                                    a[m], b, half);
        }
      }
    }
  };
  constexpr int kSteps = kWidth / kMmaDepth<T>;
  if constexpr (sizeof(T) == 2) {
    ATTN_UNROLL
    for (int step = 0; step < kSteps; ++step) multiply_step(step);
  } else {  // three products each: a body of all steps would be too long
    ATTN_UNROLL_4
    for (int step = 0; step < kSteps; ++step) multiply_step(step);
  }
}

/// Registers of A in step `step`, out of weights [16, 8 kColumnTiles]: rounded to T, or float as they are.
template <class T, int kColumnTiles>
ATTN_DEVICE Matrices weights_in_step(const Accumulator (&weights)[kColumnTiles], int step) {
  Matrices a;
  ATTN_UNROLL
  for (int r = 0; r < 4; ++r) {
    if constexpr (std::is_same_v<T, float>) {
      memcpy(&a.of[r], &weights[step][weight_of_a_tf32(r)], sizeof(float));
    } else {
      const WeightPair from = weights_of_a(r);
      const float* pair = weights[2 * step + from.tile] + from.first;
      a.of[r] = pack<T>(pair[0], pair[1]);
    }
  }
  return a;
}

/// state.*to += W B: W is state.*weights [16 kRowTiles, 8 kColumnTiles], rounded to T unless that is float, B
/// a tile [8 kColumnTiles, kWidth].
template <class T, int kWidth, int kRowTiles, int kColumnTiles, class Warp, class Thread>
ATTN_DEVICE void add_weighted_tile(Warp& warp, Accumulators<kRowTiles, kColumnTiles> Thread::*weights,
                                   const T* columns, Accumulators<kRowTiles, kWidth / 8> Thread::*to) {
  using Tile = Tile16<T, kWidth>;
  ATTN_UNROLL
  for (int step = 0; step < 8 * kColumnTiles / kMmaDepth<T>; ++step) {
    typename Warp::template Lanes<MmaOperand<T>> a[kRowTiles];
    ATTN_UNROLL
    for (int m = 0; m < kRowTiles; ++m) {
      a[m] = warp.template operand<T>(
          warp.make([=](int, Thread& state) { return weights_in_step<T>((state.*weights)[m], step); }));
    }
    ATTN_UNROLL
    for (int n = 0; n < kWidth / 8; n += 2) {
      typename Warp::template Lanes<Matrices> loaded;
      if constexpr (std::is_same_v<T, float>) {  // ldmatrix transposes 16-bit numbers only
        loaded = warp.load_words([=](int lane, int k) {
          const Word at = word_of_b_tf32(lane, k % 2);
          return columns + Tile::offset(8 * step + at.row, 2 * (n + k / 2), at.chunk) + at.element;
        });
      } else {
        loaded = warp.template load_matrices<true>(
            columns,
            [](int lane) {
              const Chunk at = chunk_of_b_transposed(lane);
              return Tile::offset(at.row, at.chunk);
            },
            Tile::kElements * (n % 8), 16 * step * kWidth + Tile::kElements * (n / 8 * 8));
      }
      const auto b = warp.template operand<T>(loaded);
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
