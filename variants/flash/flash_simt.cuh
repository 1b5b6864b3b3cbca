#pragma once
// The thread block of flash/cuda/simt: 64 queries of one head against the keys they may see, tile by tile.
//
//   S = scale q.k (+ Shaw key term); S = c tanh(S / c); S += bias; masked entries become -inf by select
//   m' = max(m, rowmax S); a = 2^(m - m'); P = 2^(S - m'); l = a l + rowsum P; O = a O + P V
//   at the end O /= l, LSE = (m + log2 l) ln 2
// Scores carry a factor log2 e (folded into the scale where nothing stands between scale and exponential), so
// that the exponential is one base-2 instruction. While m' = -inf (nothing seen yet), 0 is subtracted in its
// place.
//
// 128 (256) threads: 8 (16) groups of 16 lanes share the products as common/simt_tile.cuh says. Rows of
// shared memory are padded by 4 floats (16 for P). K and V have a buffer each; the next one is copied in
// behind the arithmetic on the other.
//
// Mask arithmetic runs in partial tiles only. There, a weight that is zero is not multiplied by V: a masked
// key may hold NaN, and 0 NaN is NaN.
//
// Shaw's tables, any clip, without memory per pair: a tile of scores meets at most 64 + keys - 1 distances.
// Where all of them are clipped to one side, the term is one number per row. In the band between, the table's
// rows for these distances are loaded like keys (values) and multiplied by the same code, and the product is
// read along its diagonals.

#include <cmath>
#include <limits>

#include "variants/common/gpu_tensor.cuh"
#include "variants/common/position_cuda.cuh"
#include "variants/common/simt_tile.cuh"
#include "variants/flash/flash_tiles.cuh"

namespace attn {

struct FlashSimtArgs : FlashShape {
  GpuTensor<const float> q, k, v;
  GpuTensor<float> o;
  float* lse;  // [batch, heads_q, seq_q]
  int head_dim, value_dim;
  bool q_aligned, k_aligned, v_aligned, o_aligned;  ///< rows may be read four floats at a time
  float scale;
  float softcap;  ///< 0: none
  BiasRows bias;
  const float* shaw_key;    // [2 clip + 1, head_dim]
  const float* shaw_value;  // [2 clip + 1, value_dim]
  int64_t clip;
  bool key_table_aligned, value_table_aligned;
};

/// kWidth: padded head_dim and value_dim. kMasked: the problem has a mask. kExtended: it has a position or a
/// softcap.
template <int kWidth, bool kMasked, bool kExtended>
struct FlashSimt {
  static_assert(kWidth == 64 || kWidth == 128 || kWidth == 256,
                "channels come in chunks of 64, 4 for each lane");
  static constexpr int kThreads = kWidth == 256 ? 256 : 128;
  static constexpr int kMinBlocks = kWidth == 256 ? 1 : kWidth == 128 || kExtended ? 2 : 3;
  static constexpr int kLanes = kSimtLanes;
  static constexpr int kGroups = kThreads / kLanes;
  static constexpr int kRows = 64;
  static constexpr int kKeys = kWidth == 64 ? 64 : 32;
  static constexpr int kRowsPerThread = kRows / kGroups;
  static constexpr int kKeysPerThread = kKeys / kLanes;
  static constexpr int kChunks = kWidth / 64;
  static constexpr int kStride = kWidth + 4;
  static constexpr int kScoreStride = kKeys + 16;
  static constexpr int kWindowTiles = (kRows + kKeys - 1 + kKeys - 1) / kKeys;

  /// Floats from the start of shared memory.
  static constexpr int kKeyBuffer = kRows * kStride;
  static constexpr int kValueBuffer = kKeyBuffer + kKeys * kStride;
  static constexpr int kScores = kValueBuffer + kKeys * kStride;
  static constexpr int kEdgeTerms = kScores + kRows * kScoreStride;  // [2][kRows] q.aK[0] and q.aK[2 clip]
  static constexpr int kEdgeSums = kEdgeTerms + (kExtended ? 2 * kRows : 0);  // [2][kRows] sums of P
  static constexpr int kSharedFloats = kEdgeSums + (kExtended ? 2 * kRows : 0);
  static constexpr size_t shared_bytes() { return kSharedFloats * sizeof(float); }

  struct Thread {
    float s[kRowsPerThread][kKeysPerThread];
    float o[kRowsPerThread][kChunks * 4];
    float maximum[kRowsPerThread];
    float sum[kRowsPerThread];      ///< over the thread's own keys
    float reduced[kRowsPerThread];  ///< in and out of a reduction over the lanes
  };

  FlashSimtArgs args;

  using Tiles = FlashTiles<kRows, kKeys, kMasked>;
  using Place = typename Tiles::Place;
  using Simt = SimtTile<kThreads>;

  /// Distances j - (i + o) of a tile, rows beyond the last query included.
  enum class Side { low, band, high };
  ATTN_DEVICE Side side_of(const Place& place, int64_t j0) const {
    const int64_t offset = args.seq_kv - args.seq_q;
    if (j0 + kKeys - 1 - place.i0 - offset <= -args.clip) return Side::low;
    if (j0 - (place.i0 + kRows - 1) - offset >= args.clip) return Side::high;
    return Side::band;
  }

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    const Place place = Tiles::place_of(args, index);
    start(block, place, shared);
    int tile = Tiles::next(args, place, place.first);
    if (tile < place.last) load_keys(block, place, int64_t{tile} * kKeys, shared);
    if constexpr (kExtended) {
      if (args.shaw_key) edge_terms(block, shared);
    }
    while (tile < place.last) {
      const int64_t j0 = int64_t{tile} * kKeys;
      const bool partial = Tiles::is_partial(args, place, j0);
      wait(block);
      block.sync();  // K is here; V and P of the tile before are no longer read
      load_values(block, place, j0, shared);
      scores<false>(block, shared);
      if constexpr (kExtended) {
        if (args.shaw_key) add_shaw_keys(block, place, j0, shared);
      }
      finish_scores(block, place, j0, partial);
      weigh(block, place, j0, shared);
      wait(block);
      block.sync();  // V and P are here; K is no longer read
      tile = Tiles::next(args, place, tile + 1);
      if (tile < place.last) load_keys(block, place, int64_t{tile} * kKeys, shared);
      accumulate(block, shared, partial);
      if constexpr (kExtended) {
        if (args.shaw_value) add_shaw_values(block, place, j0, shared);
      }
    }
    finish(block, place, shared);
  }

 private:
  ATTN_DEVICE static int row_of(int thread, int r) { return Simt::row_of(thread, r); }
  ATTN_DEVICE static int key_of(int thread, int k) { return Simt::column_of(thread, k); }

  template <class Block>
  ATTN_DEVICE static void wait(Block& block) {
    block.each([](auto& self, int, Thread&) { self.wait_copies(); });
  }

  template <class Block>
  ATTN_DEVICE void start(Block& block, const Place& place, float* shared) const {
    block.each([=, this](auto& self, int thread, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        state.maximum[r] = -INFINITY;
        state.sum[r] = 0;
        ATTN_UNROLL
        for (int c = 0; c < 4 * kChunks; ++c) state.o[r][c] = 0;
      }
      for (int row = thread / kLanes; row < kRows; row += kGroups) {
        const int64_t i = place.i0 + row;
        const float* source = i < args.seq_q ? args.q.row(place.b, i, place.h) : nullptr;
        Simt::load_row(self, thread % kLanes, source, args.head_dim, args.q_aligned, shared + row * kStride);
      }
      if constexpr (kExtended) {
        if (args.shaw_value && thread < 2 * kRows) shared[kEdgeSums + thread] = 0;
      }
    });
  }

  template <class Block>
  ATTN_DEVICE void load_keys(Block& block, const Place& place, int64_t j0, float* shared) const {
    block.each([=, this](auto& self, int thread, Thread&) {
      for (int row = thread / kLanes; row < kKeys; row += kGroups) {
        const int64_t j = j0 + row;
        const float* source = j < args.seq_kv ? args.k.row(place.b, j, place.head_kv) : nullptr;
        Simt::load_row(self, thread % kLanes, source, args.head_dim, args.k_aligned,
                       shared + kKeyBuffer + row * kStride);
      }
    });
  }
  template <class Block>
  ATTN_DEVICE void load_values(Block& block, const Place& place, int64_t j0, float* shared) const {
    block.each([=, this](auto& self, int thread, Thread&) {
      for (int row = thread / kLanes; row < kKeys; row += kGroups) {
        const int64_t j = j0 + row;
        const float* source = j < args.seq_kv ? args.v.row(place.b, j, place.head_kv) : nullptr;
        Simt::load_row(self, thread % kLanes, source, args.value_dim, args.v_aligned,
                       shared + kValueBuffer + row * kStride);
      }
    });
  }

  /// s (+)= rows of Q times rows of the key buffer.
  template <bool kToShared, class Block>
  ATTN_DEVICE void scores(Block& block, float* shared) const {
    block.each([=, this](auto&, int thread, Thread& state) {
      float product[kRowsPerThread][kKeysPerThread];
      Simt::template multiply<kStride>(thread, shared, shared + kKeyBuffer, args.head_dim, product);
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        ATTN_UNROLL
        for (int k = 0; k < kKeysPerThread; ++k) {
          if constexpr (kToShared) {
            shared[kScores + row_of(thread, r) * kScoreStride + key_of(thread, k)] = product[r][k];
          } else {
            state.s[r][k] = product[r][k];
          }
        }
      }
    });
  }

  /// q.aK[0] and q.aK[2 clip] of every row: 2 kRows products, one a thread.
  template <class Block>
  ATTN_DEVICE void edge_terms(Block& block, float* shared) const {
    static_assert(kThreads >= 2 * kRows);
    wait(block);
    block.sync();  // Q is here
    block.each([=, this](auto&, int thread, Thread&) {
      if (thread >= 2 * kRows) return;
      const float* query = shared + (thread % kRows) * kStride;
      const float* relative = args.shaw_key + (thread < kRows ? 0 : 2 * args.clip) * args.head_dim;
      float product = 0;
      for (int c = 0; c < args.head_dim; ++c) product += query[c] * relative[c];
      shared[kEdgeTerms + thread] = product;
    });
    block.sync();
  }

  /// Table rows for the distances first + [0, kKeys) into a buffer.
  template <class Block>
  ATTN_DEVICE void load_window(Block& block, int64_t first, const float* table, int width, bool aligned,
                               float* buffer) const {
    block.each([=, this](auto& self, int thread, Thread&) {
      for (int row = thread / kLanes; row < kKeys; row += kGroups) {
        const float* source = table + shaw_index(args.clip, first + row) * width;
        Simt::load_row(self, thread % kLanes, source, width, aligned, buffer + row * kStride);
      }
    });
  }

  /// Row x of the window stands for distance first + x; the pair (row, key) of the tile meets x = key - row +
  /// kRows - 1.
  ATTN_DEVICE int64_t window_start(const Place& place, int64_t j0) const {
    return j0 - (place.i0 + kRows - 1) - (args.seq_kv - args.seq_q);
  }

  template <class Block>
  ATTN_DEVICE void add_shaw_keys(Block& block, const Place& place, int64_t j0, float* shared) const {
    const Side side = side_of(place, j0);
    if (side != Side::band) {
      const float* terms = shared + kEdgeTerms + (side == Side::low ? 0 : kRows);
      block.each([=](auto&, int thread, Thread& state) {
        ATTN_UNROLL
        for (int r = 0; r < kRowsPerThread; ++r) {
          ATTN_UNROLL
          for (int k = 0; k < kKeysPerThread; ++k) state.s[r][k] += terms[row_of(thread, r)];
        }
      });
      return;
    }
    for (int window = 0; window < kWindowTiles; ++window) {
      block.sync();  // the key buffer and P are no longer read
      load_window(block, window_start(place, j0) + window * kKeys, args.shaw_key, args.head_dim,
                  args.key_table_aligned, shared + kKeyBuffer);
      wait(block);
      block.sync();
      scores<true>(block, shared);
      block.sync();
      block.each([=](auto&, int thread, Thread& state) {
        ATTN_UNROLL
        for (int r = 0; r < kRowsPerThread; ++r) {
          ATTN_UNROLL
          for (int k = 0; k < kKeysPerThread; ++k) {
            const int row = row_of(thread, r), x = key_of(thread, k) - row + kRows - 1 - window * kKeys;
            if (x >= 0 && x < kKeys) state.s[r][k] += shared[kScores + row * kScoreStride + x];
          }
        }
      });
    }
    block.sync();  // P is no longer read
  }

  /// Scale, softcap, bias, mask.
  template <class Block>
  ATTN_DEVICE void finish_scores(Block& block, const Place& place, int64_t j0, bool partial) const {
    block.each([=, this](auto&, int thread, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        ATTN_UNROLL
        for (int k = 0; k < kKeysPerThread; ++k) {
          if constexpr (kExtended) {
            const int64_t i = place.i0 + row_of(thread, r), j = j0 + key_of(thread, k);
            float score = state.s[r][k] * args.scale;
            if (args.softcap != 0) score = args.softcap * tanhf(score / args.softcap);
            if (args.bias.rows && i < args.seq_q && j < args.seq_kv) score += args.bias.head(place.h)[i - j];
            state.s[r][k] = score * kLog2e;
          } else {
            state.s[r][k] *= args.scale * kLog2e;
          }
        }
      }
      if (!partial) return;
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        ATTN_UNROLL
        for (int k = 0; k < kKeysPerThread; ++k) {
          const int64_t j = j0 + key_of(thread, k);
          bool visible = j < args.seq_kv;
          if constexpr (kMasked) {
            const int64_t i = place.i0 + row_of(thread, r);
            visible = visible && i < args.seq_q && Tiles::rule_of(args, place).allows(0, i, j);
          }
          if (!visible) state.s[r][k] = -INFINITY;
        }
      }
    });
  }

  /// New maxima, P into shared memory, sums and O rescaled.
  template <class Block>
  ATTN_DEVICE void weigh(Block& block, const Place& place, int64_t j0, float* shared) const {
    block.each([](auto&, int, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        state.reduced[r] = state.s[r][0];
        ATTN_UNROLL
        for (int k = 1; k < kKeysPerThread; ++k) state.reduced[r] = fmaxf(state.reduced[r], state.s[r][k]);
      }
    });
    block.template reduce<Maximum, kLanes>(&Thread::reduced);
    bool edges = false;
    Side side = Side::band;
    if constexpr (kExtended) {
      if (args.shaw_value) side = side_of(place, j0);
      edges = args.shaw_value != nullptr;
    }
    block.each([=](auto&, int thread, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        const int row = row_of(thread, r);
        const float maximum = fmaxf(state.maximum[r], state.reduced[r]);
        const float subtracted = maximum == -INFINITY ? 0.0f : maximum;
        const float rescale = exp2f(state.maximum[r] - subtracted);
        state.maximum[r] = maximum;
        float own = 0;
        ATTN_UNROLL
        for (int k = 0; k < kKeysPerThread; ++k) {
          const float weight = exp2f(state.s[r][k] - subtracted);
          own += weight;
          shared[kScores + row * kScoreStride + key_of(thread, k)] = weight;
        }
        state.sum[r] = state.sum[r] * rescale + own;
        ATTN_UNROLL
        for (int c = 0; c < 4 * kChunks; ++c) state.o[r][c] *= rescale;
        state.reduced[r] = own;
        if constexpr (kExtended) {
          if (edges && thread % kLanes == 0) {
            shared[kEdgeSums + row] *= rescale;
            shared[kEdgeSums + kRows + row] *= rescale;
          }
        }
      }
    });
    if constexpr (kExtended) {
      if (!edges || side == Side::band) return;
      block.template reduce<Sum, kLanes>(&Thread::reduced);
      float* sums = shared + kEdgeSums + (side == Side::low ? 0 : kRows);
      block.each([=](auto&, int thread, Thread& state) {
        if (thread % kLanes != 0) return;
        ATTN_UNROLL
        for (int r = 0; r < kRowsPerThread; ++r) sums[row_of(thread, r)] += state.reduced[r];
      });
    }
  }

  template <bool kSelect, class Block>
  ATTN_DEVICE static void accumulate_tile(Block& block, const float* shared) {
    block.each([=](auto&, int thread, Thread& state) {
      Simt::template add_weighted<kSelect, kKeys, kScoreStride, kStride>(thread, shared + kScores,
                                                                         shared + kValueBuffer, state.o);
    });
  }
  template <class Block>
  ATTN_DEVICE static void accumulate(Block& block, const float* shared, bool partial) {
    if constexpr (kMasked) {
      if (partial) return accumulate_tile<true>(block, shared);
    }
    accumulate_tile<false>(block, shared);
  }

  /// In the band: O += (P along its diagonals) times the table rows of the window. Clipped sides wait for the
  /// end.
  template <class Block>
  ATTN_DEVICE void add_shaw_values(Block& block, const Place& place, int64_t j0, float* shared) const {
    if (side_of(place, j0) != Side::band) return;
    for (int window = 0; window < kWindowTiles; ++window) {
      block.sync();  // V is no longer read
      load_window(block, window_start(place, j0) + window * kKeys, args.shaw_value, args.value_dim,
                  args.value_table_aligned, shared + kValueBuffer);
      wait(block);
      block.sync();
      block.each([=](auto&, int thread, Thread& state) {
        for (int x = 0; x < kKeys; x += 4) {
          Float4 weight[kRowsPerThread];
          ATTN_UNROLL
          for (int r = 0; r < kRowsPerThread; ++r) {
            const int row = row_of(thread, r), key = x + window * kKeys + row - (kRows - 1);
            const float* weights = shared + kScores + row * kScoreStride;
            weight[r].x = key >= 0 && key < kKeys ? weights[key] : 0.0f;
            weight[r].y = key + 1 >= 0 && key + 1 < kKeys ? weights[key + 1] : 0.0f;
            weight[r].z = key + 2 >= 0 && key + 2 < kKeys ? weights[key + 2] : 0.0f;
            weight[r].w = key + 3 >= 0 && key + 3 < kKeys ? weights[key + 3] : 0.0f;
          }
          Simt::template add_products<false, kStride>(
              weight, shared + kValueBuffer + x * kStride + 4 * (thread % kLanes), state.o);
        }
      });
    }
  }

  template <class Block>
  ATTN_DEVICE void finish(Block& block, const Place& place, float* shared) const {
    block.template reduce<Sum, kLanes>(&Thread::sum);
    if constexpr (kExtended) block.sync();  // the edge sums are here
    block.each([=, this](auto&, int thread, Thread& state) {
      const int lane = thread % kLanes;
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        const int row = row_of(thread, r);
        const int64_t i = place.i0 + row;
        if (i >= args.seq_q) continue;
        const bool empty = state.sum[r] == 0;
        const float inverse = empty ? 0.0f : 1 / state.sum[r];
        float* o = args.o.row(place.b, i, place.h);
        ATTN_UNROLL
        for (int chunk = 0; chunk < kChunks; ++chunk) {
          const int c = 64 * chunk + 4 * lane;
          if (c >= args.value_dim) continue;
          float value[4];
          ATTN_UNROLL
          for (int e = 0; e < 4; ++e) {
            value[e] = state.o[r][4 * chunk + e];
            if constexpr (kExtended) {
              if (args.shaw_value && c + e < args.value_dim) {
                value[e] += shared[kEdgeSums + row] * args.shaw_value[c + e];
                value[e] +=
                    shared[kEdgeSums + kRows + row] * args.shaw_value[2 * args.clip * args.value_dim + c + e];
              }
            }
            value[e] *= inverse;
          }
          if (args.o_aligned) {
            *reinterpret_cast<Float4*>(o + c) = {value[0], value[1], value[2], value[3]};
          } else {
            ATTN_UNROLL
            for (int e = 0; e < 4; ++e) {
              if (c + e < args.value_dim) o[c + e] = value[e];
            }
          }
        }
        if (lane == 0) {
          args.lse[(place.b * args.heads_q + place.h) * args.seq_q + i] =
              empty ? -INFINITY : (state.maximum[r] + log2f(state.sum[r])) * kLn2;
        }
      }
    });
  }
};

}  // namespace attn
