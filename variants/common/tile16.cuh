#pragma once
// A tile of 16-bit rows in shared memory, 16-byte chunks swizzled (mma_layout.h): copied in, cleaned of NaN,
// written out. Each thread of a block moves the same chunks in every tile; 8 neighbours move 128 bytes of one
// row, which is one line of memory and all 32 banks.

#include "variants/common/gpu_tensor.cuh"
#include "variants/common/mma_layout.h"

namespace attn {

/// 8 elements.
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
  static constexpr int kChunks = kWidth / 8;

  /// Elements from the start of the tile.
  ATTN_HOST_DEVICE static constexpr int offset(int row, int chunk) {
    return row * kWidth + 8 * swizzle(row, chunk);
  }
  /// Chunk number k of one of `movers` threads.
  template <int kMovers>
  ATTN_HOST_DEVICE static constexpr Chunk moved(int mover, int k) {
    static_assert(kMovers % kChunks == 0, "a thread keeps to one column of chunks");
    return {mover / kChunks + k * (kMovers / kChunks), mover % kChunks};
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
      const bool there = at.row < rows && 8 * at.chunk < from.width;
      const T* source = from.first + at.row * from.stride + 8 * at.chunk;
      block.copy_or_zero(reinterpret_cast<Float4*>(tile + offset(at.row, at.chunk)), source, there);
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
        const uint32_t sign = not_finite(word);  // a bad half's becomes all of its bits
        word &= ~((sign >> 15) * 0xffffu);
      }
    }
    return found;
  }

  /// The kRows rows of a warp.
  template <int kRows>
  ATTN_DEVICE static void store(int lane, const T* tile, const TileRows<T>& to) {
    ATTN_UNROLL
    for (int k = 0; k < kRows * kChunks / kWarpLanes; ++k) {
      const Chunk at = moved<kWarpLanes>(lane, k);
      if (at.row >= to.count || 8 * at.chunk >= to.width) continue;
      const T* source = tile + offset(at.row, at.chunk);
      T* target = to.first + at.row * to.stride + 8 * at.chunk;
      if (to.aligned) {
        *reinterpret_cast<Words*>(target) = *reinterpret_cast<const Words*>(source);
      } else {
        ATTN_ROLL
        for (int e = 0; e < 8 && 8 * at.chunk + e < to.width; ++e) target[e] = source[e];
      }
    }
  }

 private:
  /// The sign bits of the halves whose exponent is all ones.
  ATTN_DEVICE static uint32_t not_finite(uint32_t pair) {
    constexpr uint32_t kBoth = 0x10001u, kExponent = T::kExponent * kBoth;
    constexpr uint32_t kLowest = (T::kExponent & (~T::kExponent + 1u)) * kBoth;
    return ((pair & kExponent) + kLowest) & (0x8000u * kBoth);
  }

  template <int kRows, int kThreads>
  ATTN_DEVICE static void load_elements(int thread, const TileRows<const T>& from, T* tile) {
    ATTN_ROLL
    for (int k = 0; k < kRows * kChunks / kThreads; ++k) {
      const Chunk at = moved<kThreads>(thread, k);
      const T* source = from.first + at.row * from.stride + 8 * at.chunk;
      T* target = tile + offset(at.row, at.chunk);
      ATTN_ROLL
      for (int e = 0; e < 8; ++e) {
        const bool there = at.row < from.count && 8 * at.chunk + e < from.width;
        target[e] = there ? source[e] : T{};
      }
    }
  }
};

}  // namespace attn
