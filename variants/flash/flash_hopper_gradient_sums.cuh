#pragma once
// dQ of flash/cuda/hopper's backward: where thread blocks add it up, and what rounds it at the end.

#include "harness/variant.h"
#include "variants/common/gpu_tensor.cuh"
#include "variants/common/warp.cuh"
#include "variants/flash/flash_hopper_rope.cuh"

namespace attn {

/// Where dQ is added up: of each query head and tile two halves of [64][64] float32, each as the
/// accumulators of a warpgroup stand in its threads: [8][128 threads][4]. The halves are the queries 0 .. 63
/// and 64 .. 127 of a tile of 128, or the channels 0 .. 63 and 64 .. 127.
struct HopperQuerySums {
  static constexpr int kHalf = 64 * 64;

  float* sums;
  uint32_t* counters;  ///< [batch, heads_q, query_tiles], blocks that have added; behind it the ticket
  int64_t tiles;       ///< of all heads

  static HopperQuerySums take(const Problem& p, int queries, Workspace& workspace) {
    HopperQuerySums sums{};
    sums.tiles = p.batch * p.heads_q * ((p.seq_q + queries - 1) / queries);
    sums.sums = workspace.take<float>("sums of dQ", sums.tiles * 2 * kHalf);
    sums.counters = workspace.take<uint32_t>("order of the sums of dQ", sums.tiles + 1);
    return sums;
  }
  ATTN_DEVICE uint32_t* ticket() const { return counters + tiles; }
};

struct ClearCounters {
  uint32_t* counters;
  ATTN_DEVICE void operator()(int64_t k) const { counters[k] = 0; }
};

/// dQ from its sums: eight channels of two queries, 8 apart, for each k. kRope: the sums are of rotated
/// queries, and are rotated back; then head_dim is a multiple of 16.
template <class T, bool kRope>
struct StoreQueryGradient {
  HopperQuerySums from;
  GpuTensor<T> d_q;
  float scale;
  int heads_q, query_tiles, seq_q, head_dim;
  bool wide;  ///< halves are of channels, not of queries
  HopperRope rope;

  int64_t count() const { return from.tiles * (2 * HopperQuerySums::kHalf / 16); }

  ATTN_DEVICE void operator()(int64_t k) const {
    const int group = static_cast<int>(k % 8), half = static_cast<int>(k / 256 % 2);
    const int64_t tile = k / 512;
    const int channel = group * 8 + (wide ? 64 * half : 0);
    if (channel >= head_dim) return;
    const int row = static_cast<int>(k / 64 % 4) * 16 + static_cast<int>(k / 8 % 8) + (wide ? 0 : 64 * half);
    const Rows own = read(tile, row, channel);
    Rows other{};
    if (kRope && !rope.interleaved)
      other = read(tile, row, channel < rope.pairs ? channel + rope.pairs : channel - rope.pairs);
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int i = static_cast<int>(tile % query_tiles) * (wide ? 64 : 128) + row + 8 * r;
      if (i >= seq_q) continue;
      float of[8];
      ATTN_UNROLL
      for (int c = 0; c < 8; ++c) of[c] = own.of[r][c];
      if constexpr (kRope) rotate_back(i, channel, other.of[r], of);
      store(static_cast<int>(tile / query_tiles), i, channel, of);
    }
  }

 private:
  struct Rows {
    float of[2][8];
  };
  /// Eight channels of row and row + 8 of a tile.
  ATTN_DEVICE Rows read(int64_t tile, int row, int channel) const {
    Rows rows{};
    if (from.counters[tile] == 0) return rows;  // no key is visible: nothing was written
    const int half = wide ? channel / 64 : row / 64;
    const Float4* sums =
        reinterpret_cast<const Float4*>(from.sums + (2 * tile + half) * HopperQuerySums::kHalf) +
        channel % 64 / 8 * 128 + row % 64 / 16 * 32 + row % 8 * 4;
    ATTN_UNROLL
    for (int q = 0; q < 4; ++q) {
      const Float4 two = sums[q];
      rows.of[0][2 * q] = two.x;
      rows.of[0][2 * q + 1] = two.y;
      rows.of[1][2 * q] = two.z;
      rows.of[1][2 * q + 1] = two.w;
    }
    return rows;
  }
  /// `other`: the channels that these are rotated with, unless they lie among them.
  ATTN_DEVICE void rotate_back(int i, int channel, const float (&other)[8], float (&of)[8]) const {
    const bool first = channel < rope.pairs;
    const int pair = rope.interleaved ? channel / 2 : first ? channel : channel - rope.pairs;
    const int64_t at = int64_t{rope.first_row + static_cast<uint32_t>(i)} * rope.pairs + pair;
    const float *cosine = rope.cosine + at, *sine = rope.sine + at;
    ATTN_UNROLL
    for (int c = 0; c < 8; ++c) {
      if (rope.interleaved) {
        if (c % 2 == 1) continue;
        const float x = of[c], y = of[c + 1], cs = cosine[c / 2], sn = sine[c / 2];
        of[c] = x * cs + y * sn;
        of[c + 1] = y * cs - x * sn;
      } else {
        of[c] = of[c] * cosine[c] + (first ? other[c] : -other[c]) * sine[c];
      }
    }
  }
  ATTN_DEVICE void store(int head, int i, int channel, const float (&of)[8]) const {
    struct alignas(16) Packed {
      uint32_t pair[4];
    } packed;
    ATTN_UNROLL
    for (int n = 0; n < 4; ++n) packed.pair[n] = pack<T>(of[2 * n] * scale, of[2 * n + 1] * scale);
    *reinterpret_cast<Packed*>(d_q.row(head / heads_q, i, head % heads_q) + channel) = packed;
  }
};

}  // namespace attn
