#pragma once
// The thread block of flash/cuda/mma and flash/cuda/tf32x3: 128 (64 for d > 128) queries of one head on
// tensor cores against the keys they may see, tile by tile.
//
//   S = Q K^T (tensor cores, float32 sums); scale, softcap, bias; masked entries become -inf by select
//   P = 2^(S - r), l += rowsum P, O += P V (tensor cores, P rounded to the type of V)
//   at the end O /= l, LSE = (r + log2 l) ln 2
// The reference r is a maximum seen so far. It moves, and O and l are rescaled, only when a row exceeds it by
// 8 (then P <= 256, far from overflow even in f16): after the first tiles hardly ever.
//
// 4 warps, each with 32 (16) rows of S and O in registers. Q stays in shared memory; K and V have a buffer
// each. V is copied in behind Q K^T, the next K behind the softmax and P V: two barriers a tile. S becomes P
// and then an operand of P V without leaving its registers. O leaves through the rows of Q, so that memory is
// written 16 bytes at a time.
//
// Mask arithmetic runs in partial tiles only. There, V may hold NaN or infinity in keys that some rows do not
// see, and 0 NaN is NaN: such numbers are zeroed in shared memory and, in this rare case, added from memory
// to the rows that do see them.
//
// Method: Dao, "FlashAttention-2", 2023, algorithm 1 and section 3.3 (rows over warps); the lazy reference:
// FlashAttention-4's forward. Tiles as FlashAttention-2 has them on sm_80 (d = 128) and sm_90 (d = 256).
// Measured effect on an H200 (bf16, d = 128, n = 4096, b n = 16k, h d = 2048): 350 to 366 TFLOP/s, 1.0 times
// FlashAttention-2, 0.55 times cuDNN; d = 64 292, d = 256 307. Causal 257 TFLOP/s while every tile asked the
// mask's rule, 301 since a block finds its full tiles once and its place waits in shared memory. The tensor
// pipe is busy half of the time; an eighth goes into the addresses of the copies. Shorter chains of them
// made ptxas spill.

#include <limits>

#include "variants/common/mma_products.cuh"
#include "variants/common/position_cuda.cuh"
#include "variants/flash/flash_mma_shaw.cuh"
#include "variants/flash/flash_tiles.cuh"

namespace attn {

/// T: of V and O. S: of Q and K; float for rotated copies of 16-bit tensors.
template <class T, class S = T>
struct FlashMmaArgs : FlashShape {
  GpuTensor<const S> q, k;
  GpuTensor<const T> v;
  GpuTensor<T> o;
  float* lse;  // [batch, heads_q, seq_q]
  int head_dim, value_dim;
  bool q_aligned, k_aligned, v_aligned, o_aligned;
  float scale;
  float softcap;  ///< 0: none
  BiasRows bias;  ///< times log2 e, and as far beyond the problem as tiles reach
  FlashShawArgs shaw;
};

/// What an instance of the kernel can do, each including those before: nothing more; a mask; a bias, a
/// softcap, a negative scale; Shaw's terms.
enum class FlashKind { plain, masked, extended, shaw };

inline constexpr int kFlashMmaMostRows = 128, kFlashMmaMostKeys = 64;
/// The largest tiles that ptxas keeps in registers, of at most 96 KiB.
constexpr int flash_mma_rows(int width, FlashKind kind) {
  return width == 256 || kind == FlashKind::shaw ? 64 : 128;
}
/// `wide`: Q and K are float32.
constexpr int flash_mma_keys(int width, bool wide, FlashKind kind) {
  if (wide) return width == 64 ? 64 : width == 128 ? 32 : 16;
  if (kind == FlashKind::shaw) return width == 256 ? 32 : 64;
  return 64;
}

/// kWidth: padded head_dim and value_dim.
template <class T, class S, int kWidth, FlashKind kKind>
struct FlashMma {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 256, "tiles are chosen for these widths");
  static constexpr bool kMasked = kKind >= FlashKind::masked;
  static constexpr bool kExtended = kKind >= FlashKind::extended;
  static constexpr bool kShaw = kKind == FlashKind::shaw;
  static constexpr int kWidthOfTile = kWidth;
  static constexpr int kWarps = 4;
  static constexpr int kThreads = kWarps * kWarpLanes;
  static constexpr int kMinBlocks = 2;
  static constexpr int kRows = flash_mma_rows(kWidth, kKind);
  static constexpr int kKeys = flash_mma_keys(kWidth, std::is_same_v<S, float>, kKind);
  static constexpr int kWarpRows = kRows / kWarps;
  static constexpr int kRowTiles = kWarpRows / 16;
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr int kChannelTiles = kWidth / 8;
  static constexpr int kThreadRows = 2 * kRowTiles;
  static constexpr float kSlack = 8;
  static_assert(kKeys / 4 <= 32, "the visible keys of a row and thread are the bits of one number");
  static constexpr size_t kTileBytes = (kRows + kKeys) * kWidth * sizeof(S) + kKeys * kWidth * sizeof(T);
  static constexpr size_t kPlaceBytes = 64;
  static constexpr size_t shared_bytes() { return kTileBytes + kPlaceBytes; }

  struct Thread {
    Accumulators<kRowTiles, kKeyTiles> s;
    Accumulators<kRowTiles, kChannelTiles> o;
    float reference[kThreadRows];
    float sum[kThreadRows];      ///< over the thread's own keys
    float reduced[kThreadRows];  ///< in and out of a reduction over the lanes
    bool flag;                   ///< into a vote
    float low[kShaw ? kThreadRows : 1], high[kShaw ? kThreadRows : 1];  ///< alike, of clipped distances
  };

  FlashMmaArgs<T, S> args;

  using Tiles = FlashTiles<kRows, kKeys, kMasked>;
  using Place = typename Tiles::Place;
  using Tile = Tile16<T, kWidth>;

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    // What waits here for its turn leaves its registers to the sums.
    Place& place = *reinterpret_cast<Place*>(shared + kTileBytes / sizeof(float));
    static_assert(sizeof(Place) <= kPlaceBytes);
    block.each([=, this, &place](auto&, int thread, Thread&) {
      if (thread == 0) place = Tiles::place_of(args, index);
    });
    block.sync();
    S* queries = reinterpret_cast<S*>(shared);
    S* keys = queries + kRows * kWidth;
    T* values = reinterpret_cast<T*>(keys + kKeys * kWidth);
    start(block);
    int tile = Tiles::next(args, place, place.first);
    if (tile < place.last) {
      load_queries(block, place, queries);
      load_keys(block, place, int64_t{tile} * kKeys, keys);
    }
    while (tile < place.last) {
      const int64_t j0 = int64_t{tile} * kKeys;
      const bool partial = Tiles::is_partial(args, place, j0);
      wait(block);
      block.sync();  // K is here; V of the tile before is no longer read
      load_values(block, place, j0, values);
      block.each_warp([=](auto& warp) {
        multiply_tiles<S, kWidth>(warp, queries + warp.index() * kWarpRows * kWidth, keys, &Thread::s);
      });
      const bool cleaned = receive_values(block, partial, values);  // K is no longer read
      tile = Tiles::next(args, place, tile + 1);
      if (tile < place.last) load_keys(block, place, int64_t{tile} * kKeys, keys);
      block.each_warp([=, this](auto& warp) {
        if constexpr (kExtended) finish_scores(warp, place, j0);
        if (partial) hide(warp, place, j0);
        if constexpr (kShaw) {
          if (args.shaw.values) Shaw::keep(*this, warp, place, j0);
        }
        weigh(warp);
        if constexpr (kShaw) {
          if (args.shaw.values) Shaw::add_ends(*this, warp, place, j0);
        }
        add_weighted_tile<T, kWidth>(warp, &Thread::s, values, &Thread::o);
        if constexpr (kMasked) {
          if (cleaned) restore(warp, place, j0);
        }
      });
    }
    block.each_warp([=, this](auto& warp) { normalise(warp, place); });
    if constexpr (kShaw) {
      if (args.shaw.values) Shaw::add_values(*this, block, place, reinterpret_cast<float*>(keys));
    }
    block.each_warp([=, this](auto& warp) { write(warp, place, queries); });
  }

  /// Row of the block that holds elements 2 (r % 2) and 2 (r % 2) + 1 of the accumulators [r / 2][..].
  ATTN_DEVICE static int row_of(int warp, int lane, int r) {
    return warp * kWarpRows + r / 2 * 16 + mma_c(lane, r % 2 * 2).row;
  }

 private:
  using Shaw = FlashShaw<FlashMma>;

  /// Natural scores times this are exponents of 2.
  ATTN_DEVICE float factor() const { return kExtended ? 1.0f : args.scale * kLog2e; }

  template <class Block>
  ATTN_DEVICE static void start(Block& block) {
    block.each([](auto&, int, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        state.reference[r] = -INFINITY;
        state.sum[r] = 0;
        if constexpr (kShaw) state.low[r] = state.high[r] = 0;
      }
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 4; ++e) state.o[m][n][e] = 0;
        }
      }
    });
  }

  template <class Block>
  ATTN_DEVICE static void wait(Block& block) {
    block.each([](auto& self, int, Thread&) { self.wait_copies(); });
  }
  template <int kCount, class Block, class Element>
  ATTN_DEVICE static void load(Block& block, const TileRows<const Element>& rows, Element* tile) {
    block.each([=](auto& self, int thread, Thread&) {
      Tile16<Element, kWidth>::template load<kCount, kThreads>(self, thread, rows, tile);
    });
  }
  template <class Block>
  ATTN_DEVICE void load_queries(Block& block, const Place& place, S* tile) const {
    const TileRows<const S> rows{args.q.row(place.b, place.i0, place.h), args.q.seq_stride,
                                 Tiles::end_of(args, place) - place.i0, args.head_dim, args.q_aligned};
    load<kRows>(block, rows, tile);
  }
  template <class Block>
  ATTN_DEVICE void load_keys(Block& block, const Place& place, int64_t j0, S* tile) const {
    load<kKeys>(block, rows_of(args.k, place, j0, args.head_dim, args.k_aligned), tile);
  }
  template <class Block>
  ATTN_DEVICE void load_values(Block& block, const Place& place, int64_t j0, T* tile) const {
    load<kKeys>(block, rows_of(args.v, place, j0, args.value_dim, args.v_aligned), tile);
  }
  /// Keys that padding hides are read too, and hidden with the rest of their partial tile.
  template <class Element>
  ATTN_DEVICE TileRows<const Element> rows_of(const GpuTensor<const Element>& tensor, const Place& place,
                                              int64_t j0, int width, bool aligned) const {
    return {tensor.row(place.b, j0, place.head_kv), tensor.seq_stride, args.seq_kv - j0, width, aligned};
  }

  /// V is here, for all. Whether a number that is not finite was taken out of it.
  template <class Block>
  ATTN_DEVICE static bool receive_values(Block& block, bool partial, T* tile) {
    wait(block);
    if constexpr (kMasked) {
      if (partial) {
        block.each([=](auto&, int thread, Thread& state) {
          state.flag = Tile::template clean<kKeys, kThreads>(thread, tile);
        });
        return block.sync_any(&Thread::flag);
      }
    }
    block.sync();
    return false;
  }

  /// Shaw key term, scale, softcap and bias; then scores are exponents of 2.
  template <class Warp>
  ATTN_DEVICE void finish_scores(Warp& warp, const Place& place, int64_t j0) const {
    if constexpr (kShaw) Shaw::add_terms(*this, warp, place, j0);
    if (args.softcap != 0) cap(warp);
    const float factor = args.softcap != 0 ? 1.0f : args.scale * kLog2e;
    if (args.bias.rows) return add_biases(warp, place, j0, factor);
    if (args.softcap != 0) return;
    change_scores(warp, [=](float score) { return score * factor; });
  }
  template <class Warp>
  ATTN_DEVICE void cap(Warp& warp) const {
    const float inner = args.scale / args.softcap, outer = args.softcap * kLog2e;
    change_scores(warp, [=](float score) {
      const float x = score * inner;
      return outer * (sizeof(T) == 2 ? tanh_approximate(x) : tanhf(x));
    });
  }
  template <class Warp, class Change>
  ATTN_DEVICE static void change_scores(Warp& warp, const Change& change) {
    warp.each([=](int, Thread& state) {
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        ATTN_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 4; ++e) state.s[m][n][e] = change(state.s[m][n][e]);
        }
      }
    });
  }
  /// A bias belongs to a distance: row r + 8 has at key j + 8 what row r has at key j, so each is read once.
  template <class Warp>
  ATTN_DEVICE void add_biases(Warp& warp, const Place& place, int64_t j0, float factor) const {
    const float* biases = args.bias.head(place.h) + place.i0 - j0;
    warp.each([=, &warp](int lane, Thread& state) {
      ATTN_UNROLL
      for (int m = 0; m < kRowTiles; ++m) {
        const float* row = biases + row_of(warp.index(), lane, 2 * m) - mma_c(lane, 0).column;
        float below[2] = {row[8], row[7]};  // of row r + 8
        ATTN_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 2; ++e) {
            const float bias = row[-8 * n - e];
            state.s[m][n][e] = fmaf(state.s[m][n][e], factor, bias);
            state.s[m][n][2 + e] = fmaf(state.s[m][n][2 + e], factor, below[e]);
            below[e] = bias;
          }
        }
      }
    });
  }

  /// -inf for what the mask does not allow.
  template <class Warp>
  ATTN_DEVICE void hide(Warp& warp, const Place& place, int64_t j0) const {
    const int length = near_distance(place.keys - j0);
    int low = 0, high = length;  // keys that row 0 sees; each row sees one further on
    if constexpr (kMasked) {
      low = near_distance(place.i0 - j0 + args.rule.band_low);
      high = near_distance(place.i0 - j0 + args.rule.band_high + 1);
    }
    warp.each([=, this, &warp](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        int begin = 0, end = length;
        uint32_t bits = ~0u;
        if constexpr (kMasked) {
          const int row = row_of(warp.index(), lane, r);
          begin = low + row;
          end = high + row < length ? high + row : length;
          if (args.rule.documents) {
            keep_document(args.rule, place.i0 + static_cast<uint32_t>(row), j0, begin, end);
          }
          if (args.rule.blocks) {
            const MaskLine line =
                MaskLine::of_query(args.rule, args.seq_q, args.seq_kv, int64_t{place.i0} + row);
            bits = visible_bits<kKeys>(line, static_cast<uint32_t>(j0), lane);
          }
        }
        ATTN_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 2; ++e) {
            const int key = 8 * n + mma_c(lane, e).column;
            const bool visible = key >= begin && key < end && (bits >> (2 * n + e) & 1u);
            if (!visible) state.s[r / 2][n][r % 2 * 2 + e] = -INFINITY;
          }
        }
      }
    });
  }

  /// S becomes P; reference, sums and O follow.
  template <class Warp>
  ATTN_DEVICE void weigh(Warp& warp) const {
    warp.each([](int, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        float highest = -INFINITY;
        ATTN_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          const float* pair = state.s[r / 2][n] + r % 2 * 2;
          highest = fmaxf(highest, fmaxf(pair[0], pair[1]));
        }
        state.reduced[r] = highest;
      }
    });
    warp.template reduce<Maximum, 4>(&Thread::reduced);
    const float factor = this->factor();
    warp.each([=](int, Thread& state) {
      state.flag = false;
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const float highest = state.reduced[r] * factor, before = state.reference[r];
        const bool moves = highest > before + kSlack;
        state.reference[r] = moves ? highest : before;
        state.reduced[r] = moves ? exp2_approximate(before - highest) : 1.0f;
        state.flag = state.flag || moves;
      }
    });
    if (warp.any(&Thread::flag)) rescale(warp);
    warp.each([=](int, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const float subtracted = state.reference[r] == -INFINITY ? 0.0f : state.reference[r];
        ATTN_UNROLL
        for (int n = 0; n < kKeyTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 2; ++e) {
            float& score = state.s[r / 2][n][r % 2 * 2 + e];
            score = exp2_approximate(fmaf(score, factor, -subtracted));
            state.sum[r] += score;
          }
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
        if constexpr (kShaw) {
          state.low[r] *= state.reduced[r];
          state.high[r] *= state.reduced[r];
        }
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          state.o[r / 2][n][r % 2 * 2] *= state.reduced[r];
          state.o[r / 2][n][r % 2 * 2 + 1] *= state.reduced[r];
        }
      }
    });
  }

  /// What Tile::clean took out of V, for the rows that see it.
  template <class Warp>
  ATTN_DEVICE void restore(Warp& warp, const Place& place, int64_t j0) const {
    warp.each([=, this, &warp](int lane, Thread& state) {
      ATTN_ROLL
      for (int64_t j = j0; j < j0 + kKeys && j < place.keys; ++j) {
        const T* value = args.v.row(place.b, j, place.head_kv);
        bool sees[kThreadRows];
        ATTN_UNROLL
        for (int r = 0; r < kThreadRows; ++r) {
          const int64_t i = place.i0 + row_of(warp.index(), lane, r);
          sees[r] = i < args.seq_q && Tiles::rule_of(args, place).allows(0, i, j);
        }
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          ATTN_UNROLL
          for (int e = 0; e < 2; ++e) {
            const int channel = 8 * n + mma_c(lane, e).column;
            if (channel >= args.value_dim) continue;
            const T element = value[channel];
            const float number = to_float(element);
            if (number - number == 0) continue;
            ATTN_UNROLL
            for (int r = 0; r < kThreadRows; ++r) {
              if (sees[r]) state.o[r / 2][n][r % 2 * 2 + e] += number;
            }
          }
        }
      }
    });
  }

  /// O and LSE from the sums.
  template <class Warp>
  ATTN_DEVICE void normalise(Warp& warp, const Place& place) const {
    warp.sync();  // scores that Shaw::keep wrote are read by other lanes
    warp.template reduce<Sum, 4>(&Thread::sum);
    if constexpr (kShaw) {
      warp.template reduce<Sum, 4>(&Thread::low);
      warp.template reduce<Sum, 4>(&Thread::high);
    }
    warp.each([=, this, &warp](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const bool empty = state.sum[r] == 0;
        const float inverse = empty ? 0.0f : 1 / state.sum[r];
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          state.o[r / 2][n][r % 2 * 2] *= inverse;
          state.o[r / 2][n][r % 2 * 2 + 1] *= inverse;
        }
        if constexpr (kShaw) {
          state.low[r] *= inverse;
          state.high[r] *= inverse;
        }
        const int64_t i = place.i0 + row_of(warp.index(), lane, r);
        if (mma_c(lane, 0).column == 0 && i < args.seq_q) {
          args.lse[(place.b * args.heads_q + place.h) * args.seq_q + i] =
              empty ? -INFINITY : (state.reference[r] + log2f(state.sum[r])) * kLn2;
        }
      }
    });
  }

  template <class Warp>
  ATTN_DEVICE void write(Warp& warp, const Place& place, S* queries) const {
    // only this warp has read these rows
    T* rows = reinterpret_cast<T*>(queries + warp.index() * kWarpRows * kWidth);
    warp.each([=](int lane, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kThreadRows; ++r) {
        const int row = row_of(0, lane, r);
        ATTN_UNROLL
        for (int n = 0; n < kChannelTiles; ++n) {
          const float* pair = state.o[r / 2][n] + r % 2 * 2;
          store_pair(rows + Tile::place(row, 8 * n + mma_c(lane, 0).column), pair[0], pair[1]);
        }
      }
    });
    warp.sync();
    const int64_t first = place.i0 + warp.index() * kWarpRows;
    const TileRows<T> to{args.o.row(place.b, first, place.h), args.o.seq_stride,
                         Tiles::end_of(args, place) - first, args.value_dim, args.o_aligned};
    warp.each([=](int lane, Thread&) { Tile::template store<kWarpRows>(lane, rows, to); });
  }
};

}  // namespace attn
