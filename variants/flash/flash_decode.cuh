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
//   S = Q K^T (tensor cores, float32 sums); scale, softcap, bias; masked entries become -inf by select
//   P = 2^(S - r), l += rowsum P, O += P V (tensor cores, P rounded to 16 bits); r moves as in flash_mma.cuh
//
// Mask arithmetic runs only where 16 keys are not visible to all rows; NaN and infinity there are taken out
// of V and added for the rows that see them, as in flash_mma.cuh.
//
// Method: flash-decoding, Dao, Haziza, Massa and Sizov 2023; rows of grouped heads in one tile:
// FlashAttention-3. Measured effect: not measured, it has not run on a GPU yet.

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

/// A stage of 32 KiB (16 at width 64): K and V of a tile.
constexpr int flash_decode_keys(int width) { return width == 256 ? 32 : 64; }
constexpr int flash_decode_stages(int width) { return width == 64 ? 4 : 3; }

template <class T, int kWidth>  // kWidth: padded head_dim and value_dim
struct FlashDecode {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 256, "tiles are chosen for these widths");
  static constexpr int kWarpKeys = 16;
  static constexpr int kKeys = flash_decode_keys(kWidth);
  static constexpr int kWarps = kKeys / kWarpKeys;
  static constexpr int kThreads = kWarps * kWarpLanes;
  static constexpr int kMinBlocks = kWidth == 64 ? 3 : 2;
  static constexpr int kStages = flash_decode_stages(kWidth);
  static constexpr int kStage = 2 * kKeys * kWidth;  ///< elements
  static constexpr int kSteps = kWidth / 16;
  static constexpr bool kHoldsQueries = kWidth < 256;  ///< in registers; else they would spill
  static constexpr int kChannelTiles = kWidth / 8;
  static constexpr int kKeyTiles = kWarpKeys / 8;
  static constexpr int kThreadRows = 2;
  static constexpr float kSlack = 8;
  static constexpr float kLog2e = 1.44269504088896340736f;

  static constexpr size_t shared_bytes() { return (kStages * kStage + kDecodeRows * kWidth) * sizeof(T); }

  // At the end the ring holds the warps' O, rows a multiple of 32 banks and 8 apart: a warp writes without
  // conflicts. Then the rows' references and sums.
  static constexpr int kSumStride = kWidth + 8;
  static constexpr int kReferences = kWarps * kDecodeRows * kSumStride;
  static constexpr int kSums = kReferences + kWarps * kDecodeRows;
  static_assert((kSums + kWarps * kDecodeRows) * sizeof(float) <= kStages * kStage * sizeof(T));

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

  struct Place {
    int b, head_kv;
    int first, last;  ///< tiles
    KeyRange range;   ///< of all splits
  };

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    const Place place = place_of(index);
    T* ring = reinterpret_cast<T*>(shared);
    T* queries = ring + kStages * kStage;
    start(block);
    load_queries(block, place, queries);
    int64_t tile = next(place, place.first), ahead = tile;
    for (int stage = 0; stage < kStages - 1; ++stage) ahead = load_stage(block, place, ahead, ring, stage);
    wait(block);
    block.sync();
    if constexpr (kHoldsQueries) block.each_warp([=](auto& warp) { hold_queries(warp, queries); });
    int stage = 0;
    while (tile < place.last) {
      wait(block);
      block.sync();  // the tile is here; the one before is no longer read
      ahead = load_stage(block, place, ahead, ring, stage == 0 ? kStages - 1 : stage - 1);
      const T* keys = ring + stage * kStage;
      const int64_t j0 = place.range.begin + tile * kKeys;
      block.each_warp([=, this](auto& warp) {
        visit(warp, place, j0 + warp.index() * kWarpKeys, queries, keys + warp.index() * kWarpKeys * kWidth);
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
    place.range = decode_range(rule_of(place), args.seq_q);
    return place;
  }
  /// The mask of the batch entry.
  ATTN_DEVICE MaskRule rule_of(const Place& place) const {
    MaskRule rule = args.rule;
    rule.seq_kv = args.rule.key_length(place.b);
    rule.lengths = nullptr;
    return rule;
  }
  ATTN_DEVICE int64_t next(const Place& place, int64_t tile) const {
    return next_decode_tile(rule_of(place), args.seq_q, place.range, kKeys, tile, place.last);
  }
  /// Query row of the thread's elements 2 r and 2 r + 1 of each accumulator.
  ATTN_DEVICE static int row_of(int lane, int r) { return mma_c(lane, 2 * r).row; }

  template <class Block>
  ATTN_DEVICE static void start(Block& block) {
    block.each([](auto&, int, Thread& state) {
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
    });
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

  template <class Warp>
  ATTN_DEVICE static auto load_queries_of(Warp& warp, const T* queries, int step) {
    return warp.template load_matrices<false>([=](int lane) {
      const Chunk at = chunk_of_a(lane);
      return queries + Tile::offset(at.row, 2 * step + at.chunk);
    });
  }
  template <class Warp>
  ATTN_DEVICE static void hold_queries(Warp& warp, const T* queries) {
    ATTN_UNROLL
    for (int step = 0; step < kSteps; ++step) {
      const auto a = load_queries_of(warp, queries, step);
      warp.each([=](int lane, Thread& state) { state.q[step] = a[lane]; });
    }
  }
  template <class Warp>
  ATTN_DEVICE static auto queries_of(Warp& warp, const T* queries, int step) {
    if constexpr (kHoldsQueries) return warp.make([=](int, Thread& state) { return state.q[step]; });
    if constexpr (!kHoldsQueries) return load_queries_of(warp, queries, step);
  }

  /// The warp's 16 keys of a tile, from key j0 on.
  template <class Warp>
  ATTN_DEVICE void visit(Warp& warp, const Place& place, int64_t j0, const T* queries, const T* keys) const {
    TileKind kind = j0 + kWarpKeys <= place.range.end ? TileKind::full : TileKind::partial;
    if (j0 >= place.range.end) kind = TileKind::empty;
    if (args.masked) kind = decode_kind(rule_of(place), args.seq_q, place.range, j0, j0 + kWarpKeys);
    if (kind == TileKind::empty) return;
    T* values = const_cast<T*>(keys) + kKeys * kWidth;  // cleaned by the only warp that reads them
    multiply_keys(warp, queries, keys);
    finish_scores(warp, place, j0);
    bool cleaned = false;
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
      const auto b = warp.template load_matrices<false>([=](int lane) {
        const Chunk at = chunk_of_b(lane);
        return keys + Tile::offset(at.row, 2 * step + at.chunk);
      });
      ATTN_UNROLL
      for (int half = 0; half < 2; ++half) {
        warp.template multiply<T>([=](Thread& state) -> Accumulator& { return state.s[half]; }, a, b, half);
      }
    }
  }

  /// Scale, softcap and bias; then scores are exponents of 2.
  template <class Warp>
  ATTN_DEVICE void finish_scores(Warp& warp, const Place& place, int64_t j0) const {
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
  }

  ATTN_DEVICE bool sees(const Place& place, int row, int64_t j) const {
    return row < args.rows() && j < place.range.end && rule_of(place).allows(0, args.query_of(row), j);
  }
  /// -inf for what the mask does not allow.
  template <class Warp>
  ATTN_DEVICE void hide(Warp& warp, const Place& place, int64_t j0) const {
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
      const auto b = warp.template load_matrices<true>([=](int lane) {
        const Chunk at = chunk_of_b_transposed(lane);
        return values + Tile::offset(at.row, n + at.chunk);
      });
      ATTN_UNROLL
      for (int half = 0; half < 2; ++half) {
        warp.template multiply<T>([=](Thread& state) -> Accumulator& { return state.o[n + half]; }, weights,
                                  b, half);
      }
    }
  }

  /// What Tile::clean took out of V, for the rows that see it.
  template <class Warp>
  ATTN_DEVICE void restore(Warp& warp, const Place& place, int64_t j0) const {
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
