#pragma once
// Shaw's key terms of the Hopper kernels. Their products with the queries lie in memory, a row of numbers for
// each query (flash_mma_shaw.cuh). In a tile that lies wholly beyond the clip for a warp's queries the term
// of a query is one number: no score is touched, maximum and exponents take it in. Only where the clip's
// window crosses a tile each score gets a number of its own.

#include "variants/flash/flash_hopper_shape.cuh"

namespace attn {

/// Of a tile, for the two rows of a thread.
struct HopperShawTerms {
  float lift[2];  ///< added to all exponents of 2

#if defined(ATTN_HOPPER)
  /// The terms of query i, from key j0 on.
  template <class Args, class Place>
  ATTN_DEVICE static FlashShawRow row_of(const Args& args, const Place& place, int64_t i, int64_t j0) {
    const int64_t known = i < args.seq_q ? i : args.seq_q - 1;  // rows behind the last have some number
    return FlashShawRow::of(args.shaw, (int64_t{place.b} * args.heads_q + place.h) * args.seq_q + known,
                            j0 - i - (args.seq_kv - args.seq_q));
  }

  /// To the tile's scores. `first`: the warp's first row; `factor` makes exponents of scores.
  template <int kKeys, class Args, class Place>
  ATTN_DEVICE void add(const Args& args, const Place& place, int lane, int64_t first, int64_t j0,
                       float factor, float (&scores)[kKeys / 2]) {
    const int start = row_of(args, place, first, j0).start, last = args.shaw.columns - 1;
    const bool below = start + kKeys - 1 <= 0, beyond = start - 15 >= last;
    const Cell own = mma_c(lane, 0);
    const FlashShawRow rows[2] = {row_of(args, place, first + own.row, j0 + own.column),
                                  row_of(args, place, first + own.row + 8, j0 + own.column)};
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      lift[r] = below || beyond ? rows[r].terms[below ? 0 : last] * factor : 0.0f;
    }
    if (below || beyond) return;
    ATTN_UNROLL
    for (int n = 0; n < kKeys / 8; ++n) {  // row r + 8 has at key j + 8 the column that row r has at key j
      __syncwarp();                        // else the terms of all keys wait in registers together
      ATTN_UNROLL
      for (int e = 0; e < 4; ++e) scores[4 * n + e] += rows[e / 2].term(args.shaw, 8 * n + e % 2);
    }
  }

  /// The largest exponent of a row from that without terms; -inf where nothing is visible: then the term
  /// counts for nothing, be it NaN.
  ATTN_DEVICE float lifted(int r, float most) {
    if (most == -INFINITY) lift[r] = 0;
    return most + lift[r];
  }
#endif
};
struct HopperNoTerms {};

}  // namespace attn
