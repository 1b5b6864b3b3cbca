#pragma once
// A tile of rows in shared memory, 16-bit or float32, 16-byte chunks swizzled (mma_layout.h): copied in,
// cleaned of NaN, written out. Each thread of a block moves the same chunks in every tile; 8 neighbours move
// 128 bytes of one row, which is one line of memory and all 32 banks.

#include <type_traits>

#include "variants/common/gpu_tensor.cuh"
#include "variants/common/mma_layout.h"

namespace attn {

struct alignas(16) Words {
  uint32_t of[4];
};

/// Rows of a tensor, of one head.
template <class T>
struct TileRows {
  T* first;
  int64_t stride;
  int64_t count;  ///< what lies beyond is not touched
  int width;
  bool aligned;  ///< GpuTensor::aligned
};

template <class T, int kWidth>
struct Tile16 {
  static_assert(kWidth % 64 == 0, "the swizzle needs rows of a multiple of 128 bytes");
  static constexpr int kElements = 16 / sizeof(T);  ///< of a chunk
  static constexpr int kChunks = kWidth / kElements;

  /// Elements from the start of the tile.
  ATTN_HOST_DEVICE static constexpr int offset(int row, int chunk) {
    return row * kWidth + kElements * swizzle(row, chunk);
  }
  /// The same of chunk `even` + `own`, for an even constant and 0 or 1: the lanes then share all but one
  /// exclusive-or.
  ATTN_HOST_DEVICE static constexpr int offset(int row, int even, int own) {
    return row * kWidth + kElements * (swizzle(row, own) ^ even % 8) + kElements * (even / 8 * 8);
  }
  /// The same of one element.
  ATTN_HOST_DEVICE static constexpr int place(int row, int column) {
    return offset(row, column / kElements) + column % kElements;
  }
  /// Chunk number k of one of `movers` threads.
  template <int kMovers>
  ATTN_HOST_DEVICE static constexpr Chunk moved(int mover, int k) {
    if constexpr (kMovers < kChunks) {
      static_assert(kChunks % kMovers == 0, "a row takes whole turns");
      constexpr int kTurns = kChunks / kMovers;
      return {k / kTurns, mover + k % kTurns * kMovers};
    } else {
      static_assert(kMovers % kChunks == 0, "a thread keeps to one column of chunks");
      return {mover / kChunks + k * (kMovers / kChunks), mover % kChunks};
    }
  }

  /// kRows rows; zeros where there are no rows or no channels.
  template <int kRows, int kThreads, class Block>
  ATTN_DEVICE static void load(Block& block, int thread, const TileRows<const T>& from, T* tile) {
    static_assert(kRows * kChunks % kThreads == 0, "every thread moves as many chunks");
    if (!from.aligned) {
      load_elements<kRows, kThreads>(thread, from, tile);
      return block.converge();
    }
    thread = recomputed(thread);
    const int rows = from.count < kRows ? static_cast<int>(from.count) : kRows;
    ATTN_UNROLL
    for (int k = 0; k < kRows * kChunks / kThreads; ++k) {
      const Chunk at = moved<kThreads>(thread, k);
      const bool there = at.row < rows && kElements * at.chunk < from.width;
      const T* source = from.first + at.row * from.stride + kElements * at.chunk;
      block.copy_or_zero(reinterpret_cast<Float4*>(tile + offset(at.row, at.chunk)), source, there);
    }
  }

  /// The same element by element, from any alignment and other number type.
  template <int kRows, int kThreads, class From>
  ATTN_DEVICE static void load_elements(int thread, const TileRows<const From>& from, T* tile) {
    ATTN_ROLL
    for (int k = 0; k < kRows * kChunks / kThreads; ++k) {
      const Chunk at = moved<kThreads>(thread, k);
      const From* source = from.first + at.row * from.stride + kElements * at.chunk;
      T* target = tile + offset(at.row, at.chunk);
      ATTN_ROLL
      for (int e = 0; e < kElements; ++e) {
        const bool there = at.row < from.count && kElements * at.chunk + e < from.width;
        if constexpr (std::is_same_v<T, From>) {
          target[e] = there ? source[e] : T{};
        } else {
          set(target[e], there ? to_float(source[e]) : 0.0f);
        }
      }
    }
  }

  /// Whether what the thread has loaded holds neither NaN nor infinity.
  template <int kRows, int kThreads>
  ATTN_DEVICE static bool all_finite(int thread, const T* tile) {
    uint32_t bad = 0;
    ATTN_ROLL
    for (int k = 0; k < kRows * kChunks / kThreads; ++k) {
      const Chunk at = moved<kThreads>(thread, k);
      const Words& words = *reinterpret_cast<const Words*>(tile + offset(at.row, at.chunk));
      bad |= not_finite(words.of[0]) | not_finite(words.of[1]) | not_finite(words.of[2]) |
             not_finite(words.of[3]);
    }
    return bad == 0;
  }
  /// Zeroes NaN and infinity in what the thread has loaded. Whether there were any.
  template <int kRows, int kThreads>
  ATTN_DEVICE static bool clean(int thread, T* tile) {
    bool found = false;
    ATTN_ROLL
    for (int k = 0; k < kRows * kChunks / kThreads; ++k) {
      const Chunk at = moved<kThreads>(thread, k);
      Words& words = *reinterpret_cast<Words*>(tile + offset(at.row, at.chunk));
      const uint32_t bad = not_finite(words.of[0]) | not_finite(words.of[1]) | not_finite(words.of[2]) |
                           not_finite(words.of[3]);
      if (bad == 0) continue;
      found = true;
      for (uint32_t& word : words.of) {
        const uint32_t sign = not_finite(word);  // a bad number's becomes all of its bits
        word &= sizeof(T) == 4 ? (sign ? 0u : ~0u) : ~((sign >> 15) * 0xffffu);
      }
    }
    return found;
  }

  /// The same for what a lane has loaded.
  ATTN_DEVICE static Matrices cleaned(Matrices loaded) {
    ATTN_UNROLL
    for (uint32_t& word : loaded.of) word &= ~((not_finite(word) >> 15) * 0xffffu);
    return loaded;
  }

  /// The kRows rows of a warp.
  template <int kRows>
  ATTN_DEVICE static void store(int lane, const T* tile, const TileRows<T>& to) {
    ATTN_UNROLL
    for (int k = 0; k < kRows * kChunks / kWarpLanes; ++k) {
      const Chunk at = moved<kWarpLanes>(lane, k);
      if (at.row >= to.count || kElements * at.chunk >= to.width) continue;
      const T* source = tile + offset(at.row, at.chunk);
      T* target = to.first + at.row * to.stride + kElements * at.chunk;
      if (to.aligned) {
        *reinterpret_cast<Words*>(target) = *reinterpret_cast<const Words*>(source);
      } else {
        ATTN_ROLL
        for (int e = 0; e < kElements && kElements * at.chunk + e < to.width; ++e) target[e] = source[e];
      }
    }
  }

 private:
  /// The sign bits of the numbers whose exponent is all ones.
  ATTN_DEVICE static uint32_t not_finite(uint32_t pair) {
    if constexpr (sizeof(T) == 4) {
      return (pair & 0x7f800000u) == 0x7f800000u ? 0x80000000u : 0u;
    } else {
      return not_finite_halves(pair);
    }
  }
  ATTN_DEVICE static uint32_t not_finite_halves(uint32_t pair) {
    constexpr uint32_t kBoth = 0x10001u, kExponent = T::kExponent * kBoth;
    constexpr uint32_t kLowest = (T::kExponent & (~T::kExponent + 1u)) * kBoth;
    return ((pair & kExponent) + kLowest) & (0x8000u * kBoth);
  }
};

}  // namespace attn
