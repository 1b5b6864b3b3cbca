#pragma once
// The thread block of flash/cuda/mma's backward: rows of one operand on tensor cores against tiles of the
// other side. One source for every gradient:
//
//   of queries            dQ = tau sum_j dS_ij k_j                      rows Q, dO; tiles of K, V
//   of keys               dK = tau sum_i dS_ij q_i                      rows K, V; tiles of Q, dO
//   of values             dV = sum_i P_ij dO_i                          rows K; tiles of Q, dO
//   of keys and values    both at once
//   S = rows . tile^T, P = 2^(S - LSE), dP = rows' . tile'^T, dS = P (dP - D) (times the softcap's slope)
// The sums of keys and values run over the query heads of the group. No atomics: a row belongs to one block,
// which adds in a fixed order, so that results are bitwise the same in every run. The price is that S and dP
// are computed twice: 7 products where a kernel that adds dQ up in memory has 5.
//
// 4 warps, each with 16 or 32 rows: a weight becomes an operand of the second product where it stands, as in
// the forward, because rows are keys where sums run over queries. Tiles of 32 (16) columns in two buffers:
// the next one is copied in behind all arithmetic, one barrier a tile.
//
// Mask arithmetic runs in partial tiles only. There, what is hidden may be NaN or infinity: its weights are
// selected to be 0, and its rows of the tile are zeroed before they are multiplied by them. What a row does
// see still reaches it, through S and dP.
//
// Method: Dao, "FlashAttention-2", 2023, algorithm 2, its loops split in two kernels.
// Measured effect on an H200 (bf16, d = 128, n = 4096, b n = 16k, h d = 2048; 2.5 times the forward's FLOPs):
// two passes 184 TFLOP/s at first, 203 since addresses of ldmatrix cost one exclusive-or and full tiles are
// found once (causal 151, 184); all in one pass 254 (226). FlashAttention-2: 303 (274). What bounds it:
// reading shared memory and multiplying hardly overlap, and 16 keys read a tile for two products each.

#include <limits>

#include "variants/common/mma_products.cuh"
#include "variants/flash/flash_gradient_tiles.cuh"
#include "variants/flash/flash_mma_gradient_args.cuh"
#include "variants/flash/flash_mma_query_sums.cuh"

namespace attn {

/// kWidth: padded head_dim and value_dim. kMasked: the problem has a mask. kExtended: it has a bias or a
/// softcap.
template <class T, int kWidth, bool kMasked, bool kExtended, GradientOf kOf>
struct FlashMmaGradient {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 256, "tiles are chosen for these widths");
  static constexpr bool kOfQueries = kOf == GradientOf::queries;
  static constexpr bool kByScores = kOf != GradientOf::values;  ///< sums of dS times a tile
  static constexpr bool kAll = kOf == GradientOf::all;
  static constexpr bool kByWeights = kOf == GradientOf::values || kOf == GradientOf::keys_and_values || kAll;
  static constexpr bool kTables = kExtended && kOfQueries;
  static constexpr int kWidthOfTile = kWidth;
  static constexpr int kWarps = flash_mma_gradient_warps(kWidth, kOf);
  static constexpr int kThreads = kWarps * kWarpLanes;
  static constexpr int kMinBlocks = 8 / kWarps;
  static constexpr int kRows = flash_mma_gradient_rows(kWidth, kExtended, kOf);
  static constexpr int kColumns = flash_mma_gradient_columns(kWidth, kOf);
  static constexpr int kWarpRows = kRows / kWarps;
  static constexpr int kRowTiles = kWarpRows / 16;
  static constexpr int kColumnTiles = kColumns / 8;
  static constexpr int kChannelTiles = kWidth / 8;
  static constexpr int kThreadRows = 2 * kRowTiles;
  static_assert(kColumns / 4 <= 32, "the visible columns of a row and thread are the bits of one number");
  static_assert(QueryRows::kMultiple % kRows == 0 && QueryRows::kMultiple % kColumns == 0);

  /// Bytes from the start of shared memory.
  static constexpr int kRowBytes = kRows * kWidth * 2;
  static constexpr int kTileBytes = kColumns * kWidth * 2;
  static constexpr int kSecondRows = kRowBytes;
  static constexpr int kStages = kSecondRows + (kByScores ? kRowBytes : 0);
  static constexpr int kSecondTile = kTileBytes;  // from the start of a stage
  static constexpr int kTileQueries =
      2 * kTileBytes;  // from there: LSE and D [2][kColumns], unless of queries
  static constexpr int kStageBytes = kTileQueries + (kOfQueries ? 0 : kColumns * 8);
  static constexpr int kRowQueries = kStages + 2 * kStageBytes;  // LSE and D [2][kRows], of queries
  static constexpr int kWeights = kStages + 2 * kStageBytes;     // dS, of all
  static constexpr int kScores = kRowQueries + (kOfQueries ? kRows * 8 : kAll ? kRows * kColumns * 2 : 0);
  /// Floats a row of dS: rows 4 apart, 2 floats a lane, meet every bank once.
  static constexpr int kScoreStride = kColumns + 8;
  static constexpr int kDiagonals = kRows + kColumns - 1;
  static constexpr int kDiagonalSums = kScores + (kTables ? kRows * kScoreStride * 4 : 0);
  static constexpr int kPlace = kDiagonalSums + (kTables ? (kDiagonals + 1) * 4 : 0);
  static constexpr int kPlaceBytes = 64;
  static constexpr size_t shared_bytes() { return kPlace + kPlaceBytes; }
  static_assert((kDiagonals + 1) % 4 == 0, "memory is counted in 16 bytes");
  static_assert(kStageBytes % 128 == 0, "tiles are aligned to 128 bytes");

  using QuerySums = FlashMmaQuerySums<kWidth>;
  struct Thread {
    Accumulators<kRowTiles, kColumnTiles> s;  ///< scores, then P
    Accumulators<kRowTiles, kColumnTiles> d;  ///< dP, then dS
    Accumulators<kByScores ? kRowTiles : 1, kByScores ? kChannelTiles : 1> by_scores;
    Accumulators<kByWeights ? kRowTiles : 1, kByWeights ? kChannelTiles : 1> by_weights;
    Accumulators<kAll ? QuerySums::kRowTiles : 1, kAll ? QuerySums::kChannelTiles : 1> by_queries;
    bool flag;  ///< into a vote
  };

  using Element = T;
  FlashMmaGradientArgs<T> args;

  using Tiles = FlashGradientTiles<kRows, kColumns, kMasked, kOfQueries>;
  using Place = typename Tiles::Place;
  using Step = typename Tiles::Step;
  using Tile = Tile16<T, kWidth>;

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* memory) const {
    char* shared = reinterpret_cast<char*>(memory);
    // What waits here for its turn leaves its registers to the sums.
    Place& place = *reinterpret_cast<Place*>(shared + kPlace);
    static_assert(sizeof(Place) <= kPlaceBytes);
    block.each([=, this, &place](auto&, int thread, Thread&) {
      if (thread == 0) place = Tiles::place_of(args, index);
    });
    block.sync();
    start(block, index);
    Step step = Tiles::first(args, place);
    int offset = kStages;  // of the stage that holds the tile
    if (!Tiles::done(args, step)) {
      load_rows(block, place, shared);
      load_tile(block, place, step, shared + offset);
    }
    while (!Tiles::done(args, step)) {
      char* stage = shared + offset;
      const bool partial = Tiles::is_partial(args, place, step);
      const bool bad = receive(block, partial, stage);
      const Step next = Tiles::next(args, place, step);
      offset = 2 * kStages + kStageBytes - offset;
      if (!Tiles::done(args, next)) load_tile(block, place, next, shared + offset);
      block.each_warp([=, this](auto& warp) { multiply(warp, shared, stage); });
      if (bad) clean(block, stage);
      block.each_warp([=, this](auto& warp) {
        if (partial) {
          weigh<true>(warp, place, step, stage, shared);
        } else {
          weigh<false>(warp, place, step, stage, shared);
        }
      });
      if constexpr (kTables) {
        if (args.table.buckets) add_to_buckets(block, index, place, step, shared);
      }
      if constexpr (kAll) {
        block.each_warp([=](auto& warp) { QuerySums::template keep<FlashMmaGradient>(warp, shared); });
      }
      block.each_warp([=, this](auto& warp) { accumulate(warp, stage); });
      if constexpr (kAll) {
        block.sync();  // dS of all warps
        block.each_warp([=, this](auto& warp) {
          if (partial) {
            QuerySums::template add<true>(*this, warp, place, step, shared);
          } else {
            QuerySums::template add<false>(*this, warp, place, step, shared);
          }
        });
      }
      step = next;
    }
    if constexpr (kAll) block.sync();  // the rows of K are no longer read
    block.each_warp([=, this](auto& warp) { finish(warp, place, shared); });
  }

  /// Row of the block that holds elements 2 (r % 2) and 2 (r % 2) + 1 of the accumulators [r / 2][..].
  ATTN_DEVICE static int row_of(int warp, int lane, int r) {
    return warp * kWarpRows + r / 2 * 16 + mma_c(lane, r % 2 * 2).row;
  }

  template <int kRowCount, int kColumnCount>
  ATTN_DEVICE static void clear(Accumulators<kRowCount, kColumnCount>& sums) {
    ATTN_UNROLL
    for (int m = 0; m < kRowCount; ++m) {
      ATTN_UNROLL
      for (int n = 0; n < kColumnCount; ++n) {
        ATTN_UNROLL
        for (int e = 0; e < 4; ++e) sums[m][n][e] = 0;
      }
    }
  }

 private:
  template <class Block>
  ATTN_DEVICE void start(Block& block, int64_t index) const {
    block.each([](auto&, int, Thread& state) {
      clear(state.by_scores);
      clear(state.by_weights);
    });
    if constexpr (kTables) {
      if (args.table.buckets) args.table.template clear<kThreads>(block, index);
    }
  }

  template <int kCount, class Block>
  ATTN_DEVICE static void load(Block& block, const TileRows<const T>& rows, char* tile) {
    block.each([=](auto& self, int thread, Thread&) {
      Tile::template load<kCount, kThreads>(self, thread, rows, reinterpret_cast<T*>(tile));
    });
  }
  template <class Block>
  ATTN_DEVICE void load_rows(Block& block, const Place& place, char* shared) const {
    const int64_t count = (kOfQueries ? args.seq_q : int64_t{place.keys}) - place.r0;
    load<kRows>(block, (kOfQueries ? args.q : args.k).rows(place.b, place.r0, place.row_head, count), shared);
    if constexpr (kByScores) {
      load<kRows>(block, (kOfQueries ? args.d_o : args.v).rows(place.b, place.r0, place.row_head, count),
                  shared + kSecondRows);
    }
    if constexpr (kOfQueries) {
      load_queries<kRows>(block, place, place.row_head, place.r0, shared + kRowQueries);
    }
  }
  /// LSE and D of kCount queries.
  template <int kCount, class Block>
  ATTN_DEVICE void load_queries(Block& block, const Place& place, int h, int64_t i0, char* to) const {
    const int64_t first = args.queries.at(place.b, args.heads_q, h, i0);
    block.each([=, this](auto& self, int thread, Thread&) {
      constexpr int kMoved = kCount / 4;  // 16 bytes each
      static_assert(2 * kMoved <= kThreads);
      if (thread >= 2 * kMoved) return;
      const float* from = (thread < kMoved ? args.queries.lse : args.queries.mean) + first;
      self.copy(reinterpret_cast<Float4*>(to) + thread,
                reinterpret_cast<const Float4*>(from) + thread % kMoved);
    });
    block.converge();
  }
  template <class Block>
  ATTN_DEVICE void load_tile(Block& block, const Place& place, Step step, char* stage) const {
    const int64_t c0 = int64_t{step.tile} * kColumns;
    const int64_t count = (kOfQueries ? int64_t{place.keys} : args.seq_q) - c0;
    const int head = place.column_head + step.head;
    load<kColumns>(block, (kOfQueries ? args.k : args.q).rows(place.b, c0, head, count), stage);
    load<kColumns>(block, (kOfQueries ? args.v : args.d_o).rows(place.b, c0, head, count),
                   stage + kSecondTile);
    if constexpr (!kOfQueries) load_queries<kColumns>(block, place, head, c0, stage + kTileQueries);
  }

  /// The tile is here, for all, and the other stage is no longer read. Whether a number that is not finite
  /// has to be taken out of the tile, because some row does not see it.
  template <class Block>
  ATTN_DEVICE static bool receive(Block& block, bool partial, char* stage) {
    block.each([](auto& self, int, Thread&) { self.wait_copies(); });
    if constexpr (kMasked) {
      if (partial) {
        block.each([=](auto&, int thread, Thread& state) {
          state.flag =
              !Tile::template all_finite<2 * kColumns, kThreads>(thread, reinterpret_cast<T*>(stage));
        });
        return block.sync_any(&Thread::flag);
      }
    }
    block.sync();
    return false;
  }
  /// Both tiles lie side by side.
  template <class Block>
  ATTN_DEVICE static void clean(Block& block, char* stage) {
    block.sync();  // S and dP have met what is taken out
    block.each([=](auto&, int thread, Thread&) {
      Tile::template clean<2 * kColumns, kThreads>(thread, reinterpret_cast<T*>(stage));
    });
    block.sync();
  }

  /// S and dP.
  template <class Warp>
  ATTN_DEVICE static void multiply(Warp& warp, const char* shared, const char* stage) {
    const int first = warp.index() * kWarpRows * kWidth;
    multiply_tiles<T, kWidth>(warp, reinterpret_cast<const T*>(shared) + first,
                              reinterpret_cast<const T*>(stage), &Thread::s);
    if constexpr (kByScores) {
      multiply_tiles<T, kWidth>(warp, reinterpret_cast<const T*>(shared + kSecondRows) + first,
                                reinterpret_cast<const T*>(stage + kSecondTile), &Thread::d);
    }
  }

  /// Bit 2 n + e: whether the pair of row and element e of column tile n is visible. For block masks; with
  /// the loop of mask_bits.cuh these kernels spill.
  ATTN_DEVICE uint32_t visible_bits(const Place& place, int lane, int64_t row, int64_t c0) const {
    uint32_t bits = 0;
    if (row >= Tiles::end_of(args, place)) return bits;
    ATTN_ROLL
    for (int k = 0; k < kColumns / 4; ++k) {
      const int64_t column = c0 + k / 2 * 8 + mma_c(lane, k % 2).column;
      const int64_t i = kOfQueries ? row : column, j = kOfQueries ? column : row;
      if (column < Tiles::columns(args) && Tiles::rule_of(args, place).allows(0, i, j)) bits |= 1u << k;
    }
    return bits;
  }

  /// Columns [begin, end) of a tile, and of these the bits.
  struct Visible {
    int begin, end;
    uint32_t bits;
  };
  ATTN_DEVICE Visible visible_of(const Place& place, int lane, int row, int64_t c0) const {
    Visible visible{0, kColumns, ~0u};
    // Rows that fill a tile up are zero, but zero times a NaN that nothing sees is NaN.
    visible.end = near_distance((kOfQueries ? int64_t{place.keys} : args.seq_q) - c0);
    if constexpr (kMasked) {
      const int64_t r = int64_t{place.r0} + row;
      const int64_t low = kOfQueries ? r + args.rule.band_low : r - args.rule.band_high;
      const int64_t high = kOfQueries ? r + args.rule.band_high : r - args.rule.band_low;
      visible.begin = near_distance(low - c0);
      const int end = near_distance(high + 1 - c0);
      if (end < visible.end) visible.end = end;
      if (args.rule.documents)
        keep_document(args.rule, static_cast<uint32_t>(r), c0, visible.begin, visible.end);
      if (r >= (kOfQueries ? args.seq_q : int64_t{place.keys})) visible.end = 0;
      if (args.rule.blocks) visible.bits = visible_bits(place, lane, r, c0);
    }
    return visible;
  }

  /// The bias of column 8 n + mma_c(lane, e).column of the tile is bias_row(..)[kOfQueries ? -8 n - e : 8 n +
  /// e].
  ATTN_DEVICE const float* bias_row(const Place& place, Step step, int lane, int row) const {
    const int64_t distance = int64_t{place.r0} + row - int64_t{step.tile} * kColumns - mma_c(lane, 0).column;
    const int h = kOfQueries ? place.row_head : place.column_head + step.head;
    return args.bias.head(h) + (kOfQueries ? distance : -distance);
  }

  /// What the elements of a tile have in common.
  struct Weighing {
    const float* lse;   ///< of rows, of queries; else of columns
    const float* mean;  ///< alike
    float* scores;      ///< where dS goes for the gradient of a table; null: nowhere
  };
  /// P and dS of the columns 8 n + mma_c(lane, e).column, e < 2. `bias`: bias_row().
  template <bool kPartial>
  ATTN_DEVICE void weigh_pair(const Weighing& tile, const Visible& visible, const float* bias, int lane,
                              int row, int n, float* pair, float* d_pair) const {
    float slope[2] = {1, 1};
    ATTN_UNROLL
    for (int e = 0; e < 2; ++e) {
      const int column = 8 * n + mma_c(lane, e).column, query = kOfQueries ? row : column;
      const float mean = tile.mean[query];
      float score = pair[e];
      if constexpr (kExtended) {
        score *= args.scale;
        if (args.softcap != 0) {
          const float bent = tanhf(score / args.softcap);
          score = args.softcap * bent;
          slope[e] = fmaf(-bent, bent, 1.0f);
        }
        if (bias) score += bias[kOfQueries ? -8 * n - e : 8 * n + e];
      }
      const float factor = kExtended ? kLog2e : args.scale * kLog2e;
      float weight = exp2_approximate(fmaf(score, factor, -tile.lse[query]));
      float d_score = kByScores ? weight * (d_pair[e] - mean) : 0.0f;
      if constexpr (kPartial) {
        // What is not finite in dO was taken out of the tile; it is in D and gets to dV from here.
        if constexpr (kMasked && kByWeights) weight = fmaf(0.0f, mean, weight);
        const bool sees =
            column >= visible.begin && column < visible.end && (visible.bits >> (2 * n + e) & 1u);
        weight = sees ? weight : 0.0f;
        d_score = sees ? d_score : 0.0f;
      }
      pair[e] = weight;
      if constexpr (kByScores) d_pair[e] = d_score;
    }
    if constexpr (kTables) {
      if (tile.scores) {
        float* to = tile.scores + row * kScoreStride + 8 * n + mma_c(lane, 0).column;
        to[0] = d_pair[0];
        to[1] = d_pair[1];
      }
    }
    if constexpr (kExtended && kByScores) {
      d_pair[0] = d_pair[0] == 0 ? 0.0f : d_pair[0] * slope[0];  // where hidden, the slope may be NaN
      d_pair[1] = d_pair[1] == 0 ? 0.0f : d_pair[1] * slope[1];
    }
  }

  /// S becomes P and dP becomes dS; of these, the softcap's slope comes after what the bias gets.
  template <bool kPartial, class Warp>
  ATTN_DEVICE void weigh(Warp& warp, const Place& place, Step step, const char* stage, char* shared) const {
    const int64_t c0 = int64_t{step.tile} * kColumns;
    Weighing tile;
    tile.lse = reinterpret_cast<const float*>(kOfQueries ? shared + kRowQueries : stage + kTileQueries);
    tile.mean = tile.lse + (kOfQueries ? kRows : kColumns);
    tile.scores = kTables && args.table.buckets ? reinterpret_cast<float*>(shared + kScores) : nullptr;
    warp.each([=, this, &warp](int lane, Thread& state) {
      if constexpr (kOfQueries || kPartial || kExtended) {
        ATTN_UNROLL
        for (int r = 0; r < kThreadRows; ++r) {
          const int row = row_of(warp.index(), lane, r);
          Visible visible{};
          if constexpr (kPartial) visible = visible_of(place, lane, row, c0);
          const float* bias = kExtended && args.bias.rows ? bias_row(place, step, lane, row) : nullptr;
          ATTN_UNROLL
          for (int n = 0; n < kColumnTiles; ++n) {
            weigh_pair<kPartial>(tile, visible, bias, lane, row, n, state.s[r / 2][n] + r % 2 * 2,
                                 state.d[r / 2][n] + r % 2 * 2);
          }
        }
      } else {  // LSE and D of a column serve all rows
        ATTN_UNROLL
        for (int n = 0; n < kColumnTiles; ++n) {
          ATTN_UNROLL
          for (int r = 0; r < kThreadRows; ++r) {
            weigh_pair<false>(tile, {}, nullptr, lane, 0, n, state.s[r / 2][n] + r % 2 * 2,
                              state.d[r / 2][n] + r % 2 * 2);
          }
        }
      }
    });
    if constexpr (kPartial || kExtended) warp.sync();  // lanes took different ways
  }

  template <class Block>
  ATTN_DEVICE void add_to_buckets(Block& block, int64_t index, const Place& place, Step step,
                                  char* shared) const {
    const int64_t zero = int64_t{place.r0} + kRows - 1 - int64_t{step.tile} * kColumns;
    args.table.template add<kRows, kColumns, kScoreStride, kThreads>(
        block, index, zero + args.seq_kv - 1, reinterpret_cast<const float*>(shared + kScores),
        reinterpret_cast<float*>(shared + kDiagonalSums));
  }

  template <class Warp>
  ATTN_DEVICE static void accumulate(Warp& warp, const char* stage) {
    if constexpr (kByScores) {
      add_weighted_tile<T, kWidth>(warp, &Thread::d, reinterpret_cast<const T*>(stage), &Thread::by_scores);
    }
    if constexpr (kByWeights) {
      add_weighted_tile<T, kWidth>(warp, &Thread::s, reinterpret_cast<const T*>(stage + kSecondTile),
                                   &Thread::by_weights);
    }
  }

  /// Sums times `factor` to memory, through the warp's own rows of shared memory.
  template <class Warp>
  ATTN_DEVICE void store(Warp& warp, const Place& place, char* shared,
                         Accumulators<kRowTiles, kChannelTiles> Thread::*sums, float factor,
                         const Operand16<T>& gradient) const {
    T* rows = reinterpret_cast<T*>(shared) + warp.index() * kWarpRows * kWidth;
    warp.each([=](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          const float* pair = (state.*sums)[r / 2][n] + r % 2 * 2;
          *reinterpret_cast<uint32_t*>(rows + Tile::offset(row_of(0, lane, r), n) + mma_c(lane, 0).column) =
              pack<T>(pair[0] * factor, pair[1] * factor);
        }
      }
    });
    warp.sync();
    const int64_t first = int64_t{place.r0} + warp.index() * kWarpRows;
    const TileRows<T> to = gradient.rows(place.b, first, place.row_head, Tiles::rows(args) - first);
    warp.each([=](int lane, Thread&) { Tile::template store<kWarpRows>(lane, rows, to); });
  }
  template <class Warp>
  ATTN_DEVICE void finish(Warp& warp, const Place& place, char* shared) const {
    if constexpr (kByScores) {
      store(warp, place, shared, &Thread::by_scores, args.scale, kOfQueries ? args.d_q : args.d_k);
    }
    if constexpr (kByWeights) {
      char* rows = shared + (kByScores ? kSecondRows : 0);
      store(warp, place, rows, &Thread::by_weights, 1.0f, args.d_v);
    }
  }
};

}  // namespace attn
