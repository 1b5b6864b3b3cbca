#pragma once
// The thread block of flash/cuda/simt's backward: rows of one operand against tiles of the other side. One
// source for both kernels:
//
//   of queries   dQ = tau sum_j dS_ij k_j                             rows Q, dO; tiles of K, V
//   of keys      dK = tau sum_i dS_ij q_i, dV = sum_i P_ij dO_i       rows K, V; tiles of Q, dO
//   S = rows . tile^T, P = 2^(S - LSE), dP = rows' . tile'^T, dS = P (dP - D) (times the softcap's slope)
// The sums of keys run over the query heads of the group. No atomics: a row belongs to one block, which adds
// in a fixed order, so that results are bitwise the same in every run.
//
// Products as in the forward (common/simt_tile.cuh): S and dP in registers, P and dS through shared memory.
// Shaw terms are products of single pairs with the table's rows in memory (cache): slow beside the tiles, and
// right for any clip. Their tables' gradients have a kernel of their own (flash_simt_shaw_gradient.cuh).
//
// Mask arithmetic runs in partial tiles only; there, a weight that is zero is not multiplied, because what is
// hidden may be NaN.
//
// Method: Dao, "FlashAttention-2", 2023, algorithm 2, its loops split in two kernels.
// Measured effect: not measured; right on an H200.

#include <limits>

#include "variants/common/simt_tile.cuh"
#include "variants/flash/flash_backward_rows.cuh"
#include "variants/flash/flash_bucket_sums.cuh"
#include "variants/flash/flash_gradient_tiles.cuh"

namespace attn {

/// Rows of an operand that may be read and written four floats at a time.
template <class T>
struct Operand32 {
  GpuTensor<T> tensor;
  bool aligned = false;
  int width = 0;

  Operand32() = default;
  Operand32(const GpuTensor<T>& operand, int64_t row)
      : tensor(operand), aligned(operand.aligned(row)), width(static_cast<int>(row)) {}
};

struct FlashSimtGradientArgs : FlashShape {
  Operand32<const float> q, k, v, d_o;
  Operand32<float> d_q, d_k, d_v;
  QueryRows queries;
  float scale;
  float softcap;  ///< 0: none
  BiasRows bias;
  BucketSums table;
  const float* shaw_key;    // [2 clip + 1, head_dim]; null: no Shaw terms
  const float* shaw_value;  // [2 clip + 1, value_dim]
  int64_t clip;
  float* edges;        // of queries: ShawSums::edges
  int64_t edge_count;  ///< batch heads_q seq_q
};

constexpr int flash_simt_gradient_rows(int width) { return width == 64 ? 64 : 32; }
constexpr int kFlashSimtGradientColumns = 32;

/// kWidth: padded head_dim and value_dim. kMasked: the problem has a mask. kExtended: it has a bias, Shaw
/// terms or a softcap.
template <int kWidth, bool kMasked, bool kExtended, bool kOfQueries>
struct FlashSimtGradient {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 256,
                "channels come in chunks of 64, 4 for each lane");
  static constexpr int kThreads = kWidth == 256 ? 256 : 128;
  static constexpr int kMinBlocks = kWidth == 256 ? 1 : 2;
  static constexpr int kRows = flash_simt_gradient_rows(kWidth);
  static constexpr int kColumns = kFlashSimtGradientColumns;
  static constexpr int kThreadRows = kRows / (kThreads / kSimtLanes);
  static constexpr int kThreadColumns = kColumns / kSimtLanes;
  static constexpr int kSums = kWidth / kSimtLanes;
  static constexpr int kStride = kWidth + 4;
  static constexpr int kScoreStride = kColumns + 16;
  static constexpr bool kTables = kExtended && kOfQueries;
  static constexpr int kEdges = kTables ? 4 * kThreadRows : 1;

  /// Floats from the start of shared memory.
  static constexpr int kSecondRows = kRows * kStride;
  static constexpr int kTile = kSecondRows + kRows * kStride;
  static constexpr int kSecondTile = kTile + kColumns * kStride;
  static constexpr int kQueries = kOfQueries ? kRows : kColumns;
  static constexpr int kLse = kSecondTile + kColumns * kStride;  // [kQueries]
  static constexpr int kMean = kLse + kQueries;                  // [kQueries]
  static constexpr int kScores = kMean + kQueries;               // dS [kRows][kScoreStride]
  /// P of keys; of queries, dS as the bias gets it, without the softcap's slope
  static constexpr int kWeights = kScores + kRows * kScoreStride;
  static constexpr int kDiagonals = kWeights + (kOfQueries && !kTables ? 0 : kRows * kScoreStride);
  static constexpr int kSharedFloats = kDiagonals + (kTables ? kRows + kColumns : 0);
  static constexpr size_t shared_bytes() { return kSharedFloats * sizeof(float); }

  struct Thread {
    float s[kThreadRows][kThreadColumns];
    float d[kThreadRows][kThreadColumns];
    float by_scores[kThreadRows][kSums];
    float by_weights[kOfQueries ? 1 : kThreadRows][kSums];
    float edges[kEdges];  ///< sums of dS and of P at the clipped distances, low and high
  };

  FlashSimtGradientArgs args;

  using Tiles = FlashGradientTiles<kRows, kColumns, kMasked, kOfQueries>;
  using Place = typename Tiles::Place;
  using Step = typename Tiles::Step;
  using Simt = SimtTile<kThreads>;

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    const Place place = Tiles::place_of(args, index);
    start(block, index);
    load_rows(block, place, shared);
    for (Step step = Tiles::first(args, place); !Tiles::done(args, step);
         step = Tiles::next(args, place, step)) {
      const bool partial = Tiles::is_partial(args, place, step);
      block.sync();  // the tile before is no longer read
      load_tile(block, place, step, shared);
      block.each([](auto& self, int, Thread&) { self.wait_copies(); });
      block.sync();
      multiply(block, shared);
      if constexpr (kExtended) {
        if (args.shaw_key) add_shaw_terms(block, place, step, shared);
      }
      weigh(block, place, step, partial, shared);
      if constexpr (kTables) {
        if (args.table.buckets) add_to_buckets(block, place, index, step, shared);
      }
      block.sync();  // P and dS are here
      if (kMasked && partial) {
        accumulate<true>(block, shared);
      } else {
        accumulate<false>(block, shared);
      }
      if constexpr (kTables) {
        if (args.shaw_key) accumulate_shaw(block, place, step, shared);
      }
    }
    if constexpr (kTables) {
      if (args.shaw_key) store_edges(block, place);
    }
    finish(block, place);
  }

 private:
  template <class Block>
  ATTN_DEVICE void start(Block& block, int64_t index) const {
    block.each([](auto&, int, Thread& state) {
      ATTN_UNROLL
      for (int s = 0; s < kSums; ++s) {
        ATTN_UNROLL
        for (int r = 0; r < kThreadRows; ++r) {
          state.by_scores[r][s] = 0;
          if constexpr (!kOfQueries) state.by_weights[r][s] = 0;
        }
      }
      ATTN_UNROLL
      for (int e = 0; e < kEdges; ++e) state.edges[e] = 0;
    });
    if constexpr (kTables) {
      if (args.table.buckets) args.table.template clear<kThreads>(block, index);
    }
  }

  /// Rows [first, end) of a head; zeros behind the end.
  template <int kCount, class Block>
  ATTN_DEVICE static void load(Block& block, const Operand32<const float>& from, int64_t b, int64_t first,
                               int64_t end, int head, float* to) {
    block.each([=](auto& self, int thread, Thread&) {
      for (int row = thread / kSimtLanes; row < kCount; row += Simt::kGroups) {
        const float* source = first + row < end ? from.tensor.row(b, first + row, head) : nullptr;
        Simt::load_row(self, thread % kSimtLanes, source, from.width, from.aligned, to + row * kStride);
      }
    });
  }
  /// LSE and D of kQueries queries.
  template <class Block>
  ATTN_DEVICE void load_queries(Block& block, const Place& place, int h, int64_t i0, float* shared) const {
    const int64_t first = args.queries.at(place.b, args.heads_q, h, i0);
    block.each([=, this](auto& self, int thread, Thread&) {
      static_assert(2 * kQueries <= kThreads && kMean == kLse + kQueries);
      if (thread >= 2 * kQueries) return;
      const float* from = (thread < kQueries ? args.queries.lse : args.queries.mean) + first;
      self.copy(shared + kLse + thread, from + thread % kQueries);
    });
  }
  template <class Block>
  ATTN_DEVICE void load_rows(Block& block, const Place& place, float* shared) const {
    const int64_t end = kOfQueries ? args.seq_q : place.keys;
    load<kRows>(block, kOfQueries ? args.q : args.k, place.b, place.r0, end, place.row_head, shared);
    load<kRows>(block, kOfQueries ? args.d_o : args.v, place.b, place.r0, end, place.row_head,
                shared + kSecondRows);
    if constexpr (kOfQueries) load_queries(block, place, place.row_head, place.r0, shared);
  }
  template <class Block>
  ATTN_DEVICE void load_tile(Block& block, const Place& place, Step step, float* shared) const {
    const int64_t c0 = int64_t{step.tile} * kColumns, end = kOfQueries ? place.keys : args.seq_q;
    const int head = place.column_head + step.head;
    load<kColumns>(block, kOfQueries ? args.k : args.q, place.b, c0, end, head, shared + kTile);
    load<kColumns>(block, kOfQueries ? args.v : args.d_o, place.b, c0, end, head, shared + kSecondTile);
    if constexpr (!kOfQueries) load_queries(block, place, head, c0, shared);
  }

  /// S and dP.
  template <class Block>
  ATTN_DEVICE void multiply(Block& block, const float* shared) const {
    block.each([=, this](auto&, int thread, Thread& state) {
      Simt::template multiply<kStride>(thread, shared, shared + kTile, args.q.width, state.s);
      Simt::template multiply<kStride>(thread, shared + kSecondRows, shared + kSecondTile, args.v.width,
                                       state.d);
    });
  }

  /// Row of the Shaw tables for a pair of the tile.
  ATTN_DEVICE int64_t shaw_row(const Place& place, Step step, int row, int column) const {
    const int64_t distance = int64_t{step.tile} * kColumns + column - (int64_t{place.r0} + row);
    return shaw_index(args.clip, (kOfQueries ? distance : -distance) - (args.seq_kv - args.seq_q));
  }
  /// S += q.aK, dP += dO.aV.
  template <class Block>
  ATTN_DEVICE void add_shaw_terms(Block& block, const Place& place, Step step, const float* shared) const {
    block.each([=, this](auto&, int thread, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        ATTN_UNROLL
        for (int k = 0; k < kThreadColumns; ++k) {
          const int row = Simt::row_of(thread, r), column = Simt::column_of(thread, k);
          const int64_t x = shaw_row(place, step, row, column);
          const float* query = shared + (kOfQueries ? row * kStride : kTile + column * kStride);
          const float* gradient =
              shared + (kOfQueries ? kSecondRows + row * kStride : kSecondTile + column * kStride);
          float score = 0, d_weight = 0;
          for (int c = 0; c < args.q.width; ++c) score += query[c] * args.shaw_key[x * args.q.width + c];
          if (args.shaw_value) {
            for (int c = 0; c < args.v.width; ++c) {
              d_weight += gradient[c] * args.shaw_value[x * args.v.width + c];
            }
          }
          state.s[r][k] += score;
          state.d[r][k] += d_weight;
        }
      }
    });
  }
  /// dQ += dS aK.
  template <class Block>
  ATTN_DEVICE void accumulate_shaw(Block& block, const Place& place, Step step, const float* shared) const {
    block.each([=, this](auto&, int thread, Thread& state) {
      ATTN_ROLL
      for (int column = 0; column < kColumns; ++column) {
        ATTN_UNROLL
        for (int r = 0; r < kThreadRows; ++r) {
          const int row = Simt::row_of(thread, r);
          const float d_score = shared[kScores + row * kScoreStride + column];
          if (d_score == 0) continue;
          const float* relative = args.shaw_key + shaw_row(place, step, row, column) * args.q.width;
          ATTN_UNROLL
          for (int s = 0; s < kSums; ++s) {
            const int c = s / 4 * 64 + 4 * (thread % kSimtLanes) + s % 4;
            if (c < args.q.width) state.by_scores[r][s] += d_score * relative[c];
          }
        }
      }
    });
  }
  template <class Block>
  ATTN_DEVICE void store_edges(Block& block, const Place& place) const {
    block.template reduce<Sum, kSimtLanes>(&Thread::edges);
    block.each([=, this](auto&, int thread, Thread& state) {
      if (thread % kSimtLanes != 0) return;
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const int64_t i = int64_t{place.r0} + Simt::row_of(thread, r);
        if (i >= args.seq_q) continue;
        float* to = args.edges + (place.b * args.heads_q + place.row_head) * args.seq_q + i;
        ATTN_UNROLL
        for (int e = 0; e < 4; ++e) to[e * args.edge_count] = state.edges[e * kThreadRows + r];
      }
    });
  }

  template <class Block>
  ATTN_DEVICE void weigh(Block& block, const Place& place, Step step, bool partial, float* shared) const {
    const int h = kOfQueries ? place.row_head : place.column_head + step.head;
    const float factor = kExtended ? kLog2e : args.scale * kLog2e;
    block.each([=, this](auto&, int thread, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        ATTN_UNROLL
        for (int k = 0; k < kThreadColumns; ++k) {
          const int row = Simt::row_of(thread, r), column = Simt::column_of(thread, k);
          const int64_t at_row = int64_t{place.r0} + row, at_column = int64_t{step.tile} * kColumns + column;
          const int64_t i = kOfQueries ? at_row : at_column, j = kOfQueries ? at_column : at_row;
          const int query = kOfQueries ? row : column;
          float score = state.s[r][k];
          [[maybe_unused]] float slope = 1;
          if constexpr (kExtended) {
            score *= args.scale;
            if (args.softcap != 0) {
              const float bent = tanhf(score / args.softcap);
              score = args.softcap * bent;
              slope = fmaf(-bent, bent, 1.0f);
            }
            if (args.bias.rows && i < args.seq_q && j < args.seq_kv) score += args.bias.head(h)[i - j];
          }
          float weight = exp2f(fmaf(score, factor, -shared[kLse + query]));
          float d_score = weight * (state.d[r][k] - shared[kMean + query]);
          if (partial) {
            bool sees = i < args.seq_q && j < place.keys;
            if constexpr (kMasked) sees = sees && Tiles::rule_of(args, place).allows(0, i, j);
            weight = sees ? weight : 0.0f;
            d_score = sees ? d_score : 0.0f;
          }
          const int to = row * kScoreStride + column;
          if constexpr (!kOfQueries) shared[kWeights + to] = weight;
          if constexpr (kTables) shared[kWeights + to] = d_score;
          if constexpr (kExtended) d_score = d_score == 0 ? 0.0f : d_score * slope;  // NaN where hidden
          shared[kScores + to] = d_score;
          if constexpr (kTables) {
            if (args.shaw_key) {
              const int64_t x = shaw_row(place, step, row, column);
              const bool low = x == 0, high = x == 2 * args.clip && !low;
              state.edges[r] += low ? d_score : 0.0f;
              state.edges[kThreadRows + r] += high ? d_score : 0.0f;
              state.edges[2 * kThreadRows + r] += low ? weight : 0.0f;
              state.edges[3 * kThreadRows + r] += high ? weight : 0.0f;
            }
          }
        }
      }
    });
  }

  template <class Block>
  ATTN_DEVICE void add_to_buckets(Block& block, const Place& place, int64_t index, Step step,
                                  float* shared) const {
    const int64_t zero = int64_t{place.r0} + kRows - 1 - int64_t{step.tile} * kColumns;
    args.table.template add<kRows, kColumns, kScoreStride, kThreads>(block, index, zero + args.bias.zero,
                                                                     shared + kWeights, shared + kDiagonals);
  }

  template <bool kSelect, class Block>
  ATTN_DEVICE static void accumulate(Block& block, const float* shared) {
    block.each([=](auto&, int thread, Thread& state) {
      Simt::template add_weighted<kSelect, kColumns, kScoreStride, kStride>(thread, shared + kScores,
                                                                            shared + kTile, state.by_scores);
      if constexpr (!kOfQueries) {
        Simt::template add_weighted<kSelect, kColumns, kScoreStride, kStride>(
            thread, shared + kWeights, shared + kSecondTile, state.by_weights);
      }
    });
  }

  /// The lane's channels of a row, times `factor`.
  ATTN_DEVICE static void store(const Operand32<float>& gradient, const Place& place, int64_t row, int lane,
                                const float (&sums)[kSums], float factor) {
    float* to = gradient.tensor.row(place.b, row, place.row_head);
    ATTN_UNROLL
    for (int chunk = 0; chunk < kSums / 4; ++chunk) {
      const int c = 64 * chunk + 4 * lane;
      if (c >= gradient.width) continue;
      const float* sum = sums + 4 * chunk;
      if (gradient.aligned) {
        *reinterpret_cast<Float4*>(to + c) = {sum[0] * factor, sum[1] * factor, sum[2] * factor,
                                              sum[3] * factor};
      } else {
        ATTN_UNROLL
        for (int e = 0; e < 4; ++e) {
          if (c + e < gradient.width) to[c + e] = sum[e] * factor;
        }
      }
    }
  }
  template <class Block>
  ATTN_DEVICE void finish(Block& block, const Place& place) const {
    block.each([=, this](auto& self, int thread, Thread& state) {
      self.wait_copies();  // of rows that met no tile
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const int64_t row = int64_t{place.r0} + Simt::row_of(thread, r);
        if (row >= Tiles::rows(args)) continue;
        const int lane = thread % kSimtLanes;
        store(kOfQueries ? args.d_q : args.d_k, place, row, lane, state.by_scores[r], args.scale);
        if constexpr (!kOfQueries) store(args.d_v, place, row, lane, state.by_weights[r], 1.0f);
      }
    });
  }
};

}  // namespace attn
