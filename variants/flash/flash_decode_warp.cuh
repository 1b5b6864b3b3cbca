#pragma once
// What one warp of flash/cuda/decode does with its 16 keys of a tile (flash_decode.cuh).
//
//   S = Q K^T (tensor cores, float32 sums); scale, softcap, bias; masked entries become -inf by select
//   P = 2^(S - r), l += rowsum P, O += P V (tensor cores, P rounded to 16 bits); r moves as in flash_mma.cuh
//
// Mask arithmetic runs only where the 16 keys are not visible to all rows; NaN and infinity there are taken
// out of V and added for the rows that see them, as in flash_mma.cuh.

#include "variants/common/position_cuda.cuh"
#include "variants/common/tile16.cuh"
#include "variants/common/warp.cuh"
#include "variants/flash/decode_merge.cuh"
#include "variants/flash/decode_split.h"

namespace attn {

inline constexpr int kDecodeRows = 16;

template <class T>  // Bf16 or F16
struct FlashDecodeArgs : DecodeResult<T> {
  GpuTensor<const T> q, k, v;
  bool q_aligned, k_aligned, v_aligned;
  int head_dim;
  int64_t seq_kv;
  MaskRule rule;  ///< over device memory
  bool masked;
  const DecodeSplit* splits;  // [splits]
  float scale;
  float softcap;  ///< 0: none
  DistanceBias bias;
};

struct DecodePlace {
  int b, head_kv;
  int first, last;  ///< tiles
  int64_t keys;     ///< of the batch entry
  KeyRange range;   ///< that its queries see
};

template <class T, int kWidth>  // kWidth: padded head_dim and value_dim
struct FlashDecodeWarp {
  static constexpr int kWarpKeys = 16;
  static constexpr int kSteps = kWidth / 16;
  static constexpr bool kHoldsQueries = kWidth < 256;  ///< in registers; else they would spill
  static constexpr int kChannelTiles = kWidth / 8;
  static constexpr int kKeyTiles = kWarpKeys / 8;
  static constexpr int kThreadRows = 2;
  static constexpr float kSlack = 8;

  using Accumulator = float[4];
  struct Thread {
    Matrices q[kHoldsQueries ? kSteps : 1];
    Accumulator s[kKeyTiles];
    Accumulator o[kChannelTiles];
    float reference[kThreadRows];
    float sum[kThreadRows];      ///< over the thread's own keys
    float reduced[kThreadRows];  ///< in and out of a reduction over the lanes
    bool flag;                   ///< into a vote
  };

  FlashDecodeArgs<T> args;

  using Tile = Tile16<T, kWidth>;

  /// The mask of the batch entry.
  ATTN_DEVICE MaskRule rule_of(const DecodePlace& place) const {
    MaskRule rule = args.rule;
    rule.seq_kv = place.keys;
    rule.lengths = nullptr;
    return rule;
  }
  /// Query row of the thread's elements 2 r and 2 r + 1 of each accumulator.
  ATTN_DEVICE static int row_of(int lane, int r) { return mma_c(lane, 2 * r).row; }

  ATTN_DEVICE static void start(Thread& state) {
    ATTN_UNROLL
    for (int r = 0; r < kThreadRows; ++r) {
      state.reference[r] = -INFINITY;
      state.sum[r] = 0;
    }
    ATTN_UNROLL
    for (int n = 0; n < kChannelTiles; ++n) {
      ATTN_UNROLL
      for (int e = 0; e < 4; ++e) state.o[n][e] = 0;
    }
  }

  template <class Warp>
  ATTN_DEVICE static void hold_queries(Warp& warp, const T* queries) {
    ATTN_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const auto a = load_queries_of(warp, queries, step);
      warp.each([=](int lane, Thread& state) { state.q[step] = a[lane]; });
    }
  }

  /// Keys [j0, j0 + 16), which lie at `keys` and `values`.
  template <class Warp>
  ATTN_DEVICE void visit(Warp& warp, const DecodePlace& place, int64_t j0, const T* queries, const T* keys,
                         T* values) const {
    TileKind kind = j0 + kWarpKeys <= place.range.end ? TileKind::full : TileKind::partial;
    if (j0 >= place.range.end) kind = TileKind::empty;
    if (args.masked) kind = decode_kind(rule_of(place), args.seq_q, place.range, j0, j0 + kWarpKeys);
    if (kind == TileKind::empty) return;
    multiply_keys(warp, queries, keys);
    finish_scores(warp, place, j0);
    bool cleaned = false;  // no other warp reads these values
    if (kind == TileKind::partial) {
      hide(warp, place, j0);
      warp.each([=](int lane, Thread& state) {
        state.flag = Tile::template clean<kWarpKeys, kWarpLanes>(lane, values);
      });
      cleaned = warp.any(&Thread::flag);
      warp.sync();
    }
    weigh(warp);
    multiply_values(warp, values);
    if (cleaned) restore(warp, place, j0);
  }

 private:
  template <class Warp>
  ATTN_DEVICE static auto load_queries_of(Warp& warp, const T* queries, int step) {
    return warp.template load_matrices<false>(
        queries,
        [](int lane) {
          const Chunk at = chunk_of_a(lane);
          return Tile::offset(at.row, at.chunk);
        },
        Tile::kElements * (2 * step % 8), Tile::kElements * (2 * step / 8 * 8));
  }
  template <class Warp>
  ATTN_DEVICE static auto queries_of(Warp& warp, const T* queries, int step) {
    if constexpr (kHoldsQueries) return warp.make([=](int, Thread& state) { return state.q[step]; });
    if constexpr (!kHoldsQueries) return load_queries_of(warp, queries, step);
  }

  /// S = Q K^T
  template <class Warp>
  ATTN_DEVICE static void multiply_keys(Warp& warp, const T* queries, const T* keys) {
    warp.each([](int, Thread& state) {
      ATTN_UNROLL
      for (int n = 0; n < kKeyTiles; ++n) {
        ATTN_UNROLL
        for (int e = 0; e < 4; ++e) state.s[n][e] = 0;
      }
    });
    ATTN_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const auto a = queries_of(warp, queries, step);
      const auto b = warp.template load_matrices<false>(
          keys,
          [](int lane) {
            const Chunk at = chunk_of_b(lane);
            return Tile::offset(at.row, at.chunk);
          },
          Tile::kElements * (2 * step % 8), Tile::kElements * (2 * step / 8 * 8));
      ATTN_UNROLL
      for (int half = 0; half < 2; ++half) {
        warp.template multiply<T>([=](Thread& state) -> Accumulator& { return state.s[half]; }, a, b, half);
      }
    }
  }

  /// Scale, softcap and bias; then scores are exponents of 2.
  template <class Warp>
  ATTN_DEVICE void finish_scores(Warp& warp, const DecodePlace& place, int64_t j0) const {
    const bool plain = args.softcap == 0 && args.bias.none();
    const float factor = plain ? args.scale * kLog2e : args.scale;
    warp.each([=, this](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          state.s[n][2 * r] *= factor;
          state.s[n][2 * r + 1] *= factor;
        }
        if (plain || row_of(lane, r) >= args.rows()) continue;
        const int64_t i = args.query_of(row_of(lane, r)), h = args.head_of(place.head_kv, row_of(lane, r));
        ATTN_UNROLL
        for (int k = 0; k < 2 * kKeyTiles; ++k) {
          float& score = state.s[k / 2][2 * r + k % 2];
          if (args.softcap != 0) score = args.softcap * tanhf(score / args.softcap);
          if (!args.bias.none()) {
            int64_t j = j0 + 8 * (k / 2) + mma_c(lane, k % 2).column;
            if (j >= args.seq_kv) j = args.seq_kv - 1;
            score += args.bias.of(h, i - j + args.seq_kv - 1);
          }
          score *= kLog2e;
        }
      }
    });
    if (!plain) warp.sync();  // lanes took different ways
  }

  ATTN_DEVICE bool sees(const DecodePlace& place, int row, int64_t j) const {
    return row < args.rows() && j < place.range.end && rule_of(place).allows(0, args.query_of(row), j);
  }
  /// -inf for what the mask does not allow.
  template <class Warp>
  ATTN_DEVICE void hide(Warp& warp, const DecodePlace& place, int64_t j0) const {
    warp.each([=, this](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        ATTN_UNROLL
        for (int k = 0; k < 2 * kKeyTiles; ++k) {
          const int64_t j = j0 + 8 * (k / 2) + mma_c(lane, k % 2).column;
          if (!sees(place, row_of(lane, r), j)) state.s[k / 2][2 * r + k % 2] = -INFINITY;
        }
      }
    });
  }

  /// S becomes P; reference, sums and O follow.
  template <class Warp>
  ATTN_DEVICE static void weigh(Warp& warp) {
    warp.each([](int, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        float highest = -INFINITY;
        ATTN_UNROLL
        for (int k = 0; k < 2 * kKeyTiles; ++k) highest = fmaxf(highest, state.s[k / 2][2 * r + k % 2]);
        state.reduced[r] = highest;
      }
    });
    warp.template reduce<Maximum, 4>(&Thread::reduced);
    warp.each([](int, Thread& state) {
      state.flag = false;
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const float highest = state.reduced[r], before = state.reference[r];
        const bool moves = highest > before + kSlack;
        state.reference[r] = moves ? highest : before;
        state.reduced[r] = moves ? exp2_approximate(before - highest) : 1.0f;
        state.flag = state.flag || moves;
      }
    });
    if (warp.any(&Thread::flag)) rescale(warp);
    warp.each([](int, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const float subtracted = state.reference[r] == -INFINITY ? 0.0f : state.reference[r];
        ATTN_UNROLL
        for (int k = 0; k < 2 * kKeyTiles; ++k) {
          float& score = state.s[k / 2][2 * r + k % 2];
          score = exp2_approximate(score - subtracted);
          state.sum[r] += score;
        }
      }
    });
  }
  template <class Warp>
  ATTN_DEVICE static void rescale(Warp& warp) {
    warp.each([](int, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        state.sum[r] *= state.reduced[r];
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          state.o[n][2 * r] *= state.reduced[r];
          state.o[n][2 * r + 1] *= state.reduced[r];
        }
      }
    });
  }

  /// O += P V
  template <class Warp>
  ATTN_DEVICE static void multiply_values(Warp& warp, const T* values) {
    const auto weights = warp.make([](int, Thread& state) {
      Matrices a;
      ATTN_UNROLL
      for (int r = 0; r < 4; ++r) {
        const WeightPair from = weights_of_a(r);
        const float* pair = state.s[from.tile] + from.first;
        a.of[r] = pack<T>(pair[0], pair[1]);
      }
      return a;
    });
    ATTN_UNROLL
    for (int n = 0; n < kChannelTiles; n += 2) {
      const auto b = warp.template load_matrices<true>(
          values,
          [](int lane) {
            const Chunk at = chunk_of_b_transposed(lane);
            return Tile::offset(at.row, at.chunk);
          },
          Tile::kElements * (n % 8), Tile::kElements * (n / 8 * 8));
      ATTN_UNROLL
      for (int half = 0; half < 2; ++half) {
        warp.template multiply<T>([=](Thread& state) -> Accumulator& { return state.o[n + half]; }, weights,
                                  b, half);
      }
    }
  }

  /// What Tile::clean took out of V, for the rows that see it.
  template <class Warp>
  ATTN_DEVICE void restore(Warp& warp, const DecodePlace& place, int64_t j0) const {
    warp.each([=, this](int lane, Thread& state) {
      ATTN_ROLL
      for (int64_t j = j0; j < j0 + kWarpKeys && j < place.range.end; ++j) {
        const T* value = args.v.row(place.b, j, place.head_kv);
        bool seen[kThreadRows];
        ATTN_UNROLL
        for (int r = 0; r < kThreadRows; ++r) seen[r] = sees(place, row_of(lane, r), j);
        ATTN_UNROLL
        for (int k = 0; k < 2 * kChannelTiles; ++k) {
          const int channel = 8 * (k / 2) + mma_c(lane, k % 2).column;
          if (channel >= args.value_dim) continue;
          const T element = value[channel];
          if ((element.bits & T::kExponent) != T::kExponent) continue;
          ATTN_UNROLL
          for (int r = 0; r < kThreadRows; ++r) {
            if (seen[r]) state.o[k / 2][2 * r + k % 2] += to_float(element);
          }
        }
      }
    });
  }
};

}  // namespace attn
