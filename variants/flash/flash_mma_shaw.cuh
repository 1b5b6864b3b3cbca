#pragma once
// Shaw's terms of the tensor-core kernels, any clip, with float32 tables.
//
// Keys: a kernel before the main one multiplies every query by the columns of aK in use (tensor cores, three
// tf32 products) into a workspace of seq_q * columns numbers a head; the main kernel adds one of them to each
// score.
// Values: each distance inside the clip belongs to one key of a query, so the finished score takes the place
// of the term just read. At the end it becomes the weight of that column of aV; the weights of the two
// clipped ends are summed on the way. The weights, normalised, are then multiplied by aV (three tf32 products
// again).
//
// Shaw et al. 2018, section 3.3.

#include "variants/common/mask_cuda.cuh"
#include "variants/common/mma_products.cuh"
#include "variants/common/position_cuda.cuh"
#include "variants/flash/flash_tiles.cuh"

namespace attn {

struct FlashShawArgs {
  float* terms;         // [batch, heads_q, seq_q, columns]
  const float* values;  // [columns, value_dim]; null: key terms alone
  bool values_aligned;
  int64_t nearest;  ///< distance of column 0
  int columns;
  int lower, upper;  ///< up to and from which column a distance is clipped; -1 and `columns`: never
};

/// The columns that a query meets.
struct FlashShawRow {
  float* terms;
  int start;  ///< column of key 0 of the tile, before clipping

  ATTN_DEVICE static FlashShawRow of(const FlashShawArgs& shaw, int64_t row, int64_t distance) {
    constexpr int64_t kFar = 1 << 30;
    const int64_t start = distance - shaw.nearest;
    return {shaw.terms + row * shaw.columns, static_cast<int>(start < -kFar  ? -kFar
                                                              : start > kFar ? kFar
                                                                             : start)};
  }
  ATTN_DEVICE float term(const FlashShawArgs& shaw, int key) const {
    const int column = start + key, last = shaw.columns - 1;
    return terms[column < 0 ? 0 : column > last ? last : column];
  }
};

/// The columns of every query and aK: 64 queries a block.
template <class T, int kWidth>
struct FlashShawTerms {
  static constexpr int kThreads = 4 * kWarpLanes;
  static constexpr int kMinBlocks = 2;
  static constexpr int kRows = 64;
  static constexpr int kColumns = kWidth == 256 ? 16 : 32;
  static constexpr size_t shared_bytes() { return (kRows + kColumns) * kWidth * sizeof(float); }

  struct Thread {
    Accumulators<1, kColumns / 8> s;
  };

  FlashShape shape;
  GpuTensor<const T> q;
  const float* table;  // [columns, head_dim]
  float* terms;        // [batch, heads_q, seq_q, columns]
  int head_dim, columns;
  bool q_aligned, table_aligned;

  using Tiles = FlashTiles<kRows, kColumns, false>;
  using Tile = Tile16<float, kWidth>;

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    const auto place = Tiles::place_of(shape, index);
    float* columns_of_table = shared + kRows * kWidth;
    const TileRows<const T> rows{q.row(place.b, place.i0, place.h), q.seq_stride,
                                 Tiles::end_of(shape, place) - place.i0, head_dim, q_aligned};
    block.each([=](auto& self, int thread, Thread&) {
      if constexpr (std::is_same_v<T, float>) {
        Tile::template load<kRows, kThreads>(self, thread, rows, shared);
      } else {
        Tile::template load_elements<kRows, kThreads>(thread, rows, shared);
      }
    });
    const int64_t first = (int64_t{place.b} * shape.heads_q + place.h) * shape.seq_q + place.i0;
    for (int x0 = 0; x0 < columns; x0 += kColumns) {
      const TileRows<const float> from{table + int64_t{x0} * head_dim, head_dim, columns - x0, head_dim,
                                       table_aligned};
      block.each([=](auto& self, int thread, Thread&) {
        Tile::template load<kColumns, kThreads>(self, thread, from, columns_of_table);
        self.wait_copies();
      });
      block.sync();
      block.each_warp([=, this](auto& warp) {
        multiply_tiles<float, kWidth>(warp, shared + warp.index() * 16 * kWidth, columns_of_table,
                                      &Thread::s);
        write(warp, first, rows.count, x0);
      });
      block.sync();  // the columns are no longer read
    }
  }

 private:
  template <class Warp>
  ATTN_DEVICE void write(Warp& warp, int64_t first, int64_t rows, int x0) const {
    warp.each([=, this, &warp](int lane, Thread& state) {
      ATTN_UNROLL
      for (int n = 0; n < kColumns / 8; ++n) {
        ATTN_UNROLL
        for (int e = 0; e < 4; ++e) {
          const Cell at = mma_c(lane, e);
          const int row = 16 * warp.index() + at.row, column = x0 + 8 * n + at.column;
          if (row < rows && column < columns) terms[(first + row) * columns + column] = state.s[0][n][e];
        }
      }
    });
  }
};

/// Shaw's part of the main kernel. Kernel::Thread has s, o, and the sums of the weights at the clipped ends.
template <class Kernel>
struct FlashShaw {
  using Thread = typename Kernel::Thread;
  using Place = typename Kernel::Place;

  /// Columns for a thread's row r of the block.
  ATTN_DEVICE static FlashShawRow row_of(const Kernel& kernel, const Place& place, int64_t i, int64_t j0) {
    const auto& args = kernel.args;
    return FlashShawRow::of(args.shaw, (int64_t{place.b} * args.heads_q + place.h) * args.seq_q + i,
                            j0 - i - (args.seq_kv - args.seq_q));
  }

  /// use(state, r, row, key, score) for every score of the warp.
  template <class Warp, class Use>
  ATTN_DEVICE static void each_score(const Kernel& kernel, Warp& warp, const Place& place, int64_t j0,
                                     const Use& use) {
    warp.each([=, &kernel, &warp](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < Kernel::kThreadRows; ++r) {
        const int64_t i = place.i0 + Kernel::row_of(warp.index(), lane, r);
        if (i >= kernel.args.seq_q) continue;
        const FlashShawRow row = row_of(kernel, place, i, j0);
        ATTN_UNROLL
        for (int n = 0; n < Kernel::kKeyTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 2; ++e) {
            use(state, r, row, 8 * n + mma_c(lane, e).column, state.s[r / 2][n][r % 2 * 2 + e]);
          }
        }
      }
    });
    warp.sync();  // lanes that took different ways are together again: mma demands it
  }

  template <class Warp>
  ATTN_DEVICE static void add_terms(const Kernel& kernel, Warp& warp, const Place& place, int64_t j0) {
    each_score(kernel, warp, place, j0,
               [&kernel](Thread&, int, const FlashShawRow& row, int key, float& score) {
                 score += row.term(kernel.args.shaw, key);
               });
  }

  /// Finished scores inside the clip, for values().
  template <class Warp>
  ATTN_DEVICE static void keep(const Kernel& kernel, Warp& warp, const Place& place, int64_t j0) {
    const int lower = kernel.args.shaw.lower, upper = kernel.args.shaw.upper;
    each_score(kernel, warp, place, j0, [=](Thread&, int, const FlashShawRow& row, int key, float score) {
      const int column = row.start + key;
      if (column > lower && column < upper) row.terms[column] = score;
    });
  }

  /// Weights of the clipped ends.
  template <class Warp>
  ATTN_DEVICE static void add_ends(const Kernel& kernel, Warp& warp, const Place& place, int64_t j0) {
    const int lower = kernel.args.shaw.lower, upper = kernel.args.shaw.upper;
    each_score(kernel, warp, place, j0,
               [=](Thread& state, int r, const FlashShawRow& row, int key, float weight) {
                 const int column = row.start + key;
                 if (column <= lower) {
                   state.low[r] += weight;
                 } else if (column >= upper) {
                   state.high[r] += weight;
                 }
               });
  }

  /// O += weights by column times aV, O being normalised. `memory` holds a float32 tile of kKeys rows.
  template <class Block>
  ATTN_DEVICE static void add_values(const Kernel& kernel, Block& block, const Place& place, float* memory) {
    const FlashShawArgs& shaw = kernel.args.shaw;
    const int width = kernel.args.value_dim;
    for (int x0 = 0; x0 < shaw.columns; x0 += Kernel::kKeys) {
      const TileRows<const float> rows{shaw.values + int64_t{x0} * width, width, shaw.columns - x0, width,
                                       shaw.values_aligned};
      block.sync();  // the tile before is no longer read
      block.each([=](auto& self, int thread, Thread&) {
        Tile16<float, Kernel::kWidthOfTile>::template load<Kernel::kKeys, Kernel::kThreads>(self, thread,
                                                                                            rows, memory);
        self.wait_copies();
      });
      block.sync();
      block.each_warp([=, &kernel](auto& warp) {
        weights(kernel, warp, place, x0);
        add_weighted_tile<float, Kernel::kWidthOfTile>(warp, &Thread::s, static_cast<const float*>(memory),
                                                       &Thread::o);
      });
    }
  }

 private:
  /// S = the normalised weights of columns x0, x0 + 1, ..
  template <class Warp>
  ATTN_DEVICE static void weights(const Kernel& kernel, Warp& warp, const Place& place, int x0) {
    const FlashShawArgs& shaw = kernel.args.shaw;
    const auto rule = Kernel::Tiles::rule_of(kernel.args, place);
    warp.each([=, &kernel, &warp](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < Kernel::kThreadRows; ++r) {
        const int64_t i = place.i0 + Kernel::row_of(warp.index(), lane, r);
        const int64_t nearest = i + kernel.args.seq_kv - kernel.args.seq_q + shaw.nearest;  // key of column 0
        const bool empty = i >= kernel.args.seq_q || state.sum[r] == 0;
        const float* terms = row_of(kernel, place, empty ? 0 : i, 0).terms;
        const float normaliser = state.reference[r] + log2f(state.sum[r]);
        ATTN_UNROLL
        for (int n = 0; n < Kernel::kKeyTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 2; ++e) {
            const int column = x0 + 8 * n + mma_c(lane, e).column;
            const int64_t j = nearest + column;
            float weight = 0;
            if (!empty && column < shaw.columns) {
              if (column <= shaw.lower) weight += state.low[r];
              if (column >= shaw.upper) weight += state.high[r];
              const bool inside = column > shaw.lower && column < shaw.upper;
              if (inside && j >= 0 && j < place.keys && rule.allows(0, i, j)) {
                weight = exp2_approximate(terms[column] - normaliser);
              }
            }
            state.s[r / 2][n][r % 2 * 2 + e] = weight;
          }
        }
      }
    });
    warp.sync();  // as above
  }
};

/// The key terms: their products, which read the queries once more, and a number each written and read.
inline void add_shaw_keys(Cost& cost, const Problem& p, int width) {
  const ShawColumns columns = ShawColumns::of(p);
  if (columns.count == 0) return;
  const auto queries = static_cast<double>(p.batch * p.heads_q * p.seq_q),
             terms = queries * static_cast<double>(columns.count);
  cost.flops_executed += 3 * 2 * width * terms;
  cost.bytes_moved += static_cast<double>(bytes_of(p.dtype)) * static_cast<double>(p.head_dim) * queries;
  cost.bytes_moved += 2 * 4 * terms;
}

/// Workspace and arguments.
class DeviceShaw {
 public:
  static DeviceShaw take(const Problem& p, Workspace& workspace) {
    DeviceShaw shaw;
    shaw.columns_ = ShawColumns::of(p);
    if (shaw.columns_.count == 0) return shaw;
    shaw.terms_ =
        workspace.take<float>("shaw query terms", p.batch * p.heads_q * p.seq_q * shaw.columns_.count);
    return shaw;
  }

  /// Enqueues the products with aK.
  template <class T, class Queue>
  FlashShawArgs fill(const Queue& queue, const Problem& p, const FlashShape& shape,
                     const GpuTensor<const T>& q, const Tables& tables) const {
    FlashShawArgs args{};
    if (!terms_) return args;
    const int64_t widest = std::max(p.head_dim, p.value_dim);
    if (widest <= 64) {
      multiply<T, 64>(queue, p, shape, q, tables.shaw_key);
    } else if (widest <= 128) {
      multiply<T, 128>(queue, p, shape, q, tables.shaw_key);
    } else {
      multiply<T, 256>(queue, p, shape, q, tables.shaw_key);
    }
    args.terms = terms_;
    args.columns = static_cast<int>(columns_.count);
    args.nearest = columns_.first - p.position.clip;
    args.lower = columns_.first == 0 ? 0 : -1;
    const bool clipped = columns_.first + columns_.count == p.position.shaw_rows();
    args.upper = args.columns - (clipped ? 1 : 0);
    if (p.position.shaw_values()) {
      args.values = tables.shaw_value + columns_.first * p.value_dim;
      args.values_aligned = GpuTensor<const float>{args.values}.aligned(p.value_dim);
    }
    return args;
  }

 private:
  template <class T, int kWidth, class Queue>
  void multiply(const Queue& queue, const Problem& p, const FlashShape& shape, const GpuTensor<const T>& q,
                const float* table) const {
    const float* first = table + columns_.first * p.head_dim;
    queue.blocks(flash_blocks(p, FlashShawTerms<T, kWidth>::kRows),
                 FlashShawTerms<T, kWidth>{shape, q, first, terms_, static_cast<int>(p.head_dim),
                                           static_cast<int>(columns_.count), q.aligned(p.head_dim),
                                           GpuTensor<const float>{first}.aligned(p.head_dim)});
  }

  float* terms_ = nullptr;
  ShawColumns columns_;
};

}  // namespace attn
