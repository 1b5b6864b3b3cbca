#pragma once
// RoPE of the queries of a row of tiles, in shared memory, where TMA has put them: by the warps of the
// loading warpgroup that have nothing else to do, while the row before is computed.

#include "variants/common/position_cuda.cuh"
#include "variants/flash/flash_hopper_shape.cuh"

namespace attn {

/// Numbers of neighbouring channel pairs.
template <int kPairs>
struct alignas(16) PairNumbers {
  float of[kPairs];
};
/// `channels`: those of kPairs neighbouring pairs in order, all first ones before all second ones, or pair by
/// pair where they are interleaved.
template <bool kInterleaved, int kPairs>
ATTN_DEVICE void rotate_pairs(const PairNumbers<kPairs>& cosine, const PairNumbers<kPairs>& sine,
                              float (&channels)[2 * kPairs]) {
  ATTN_UNROLL
  for (int k = 0; k < kPairs; ++k) {
    const ChannelPair pair = rope_channels(kInterleaved, 2 * kPairs, k);
    const float x = channels[pair.first], y = channels[pair.second];
    channels[pair.first] = x * cosine.of[k] - y * sine.of[k];
    channels[pair.second] = x * sine.of[k] + y * cosine.of[k];
  }
}

/// The angles of queries, or of keys.
struct HopperRope {
  const float* cosine = nullptr;  // [positions, pairs], rows aligned to 16 bytes; null: no RoPE
  const float* sine = nullptr;
  uint32_t first_row = 0;  ///< of the tables, for query (key) 0
  int pairs = 0;           ///< half of head_dim, a multiple of 4
  bool interleaved = false;

  ATTN_HOST_DEVICE explicit operator bool() const { return cosine != nullptr; }

  /// A row of float32 numbers, by the lanes of a warp.
  ATTN_DEVICE void rotate_back(float* channels, int i, int lane) const {
    const int64_t at = int64_t{first_row + static_cast<uint32_t>(i)} * pairs;
    for (int pair = lane; pair < pairs; pair += kWarpLanes) {
      const ChannelPair channel = rope_channels(interleaved, 2 * pairs, pair);
      const float x = channels[channel.first], y = channels[channel.second];
      const float c = cosine[at + pair], s = sine[at + pair];
      channels[channel.first] = x * c + y * s;
      channels[channel.second] = y * c - x * s;
    }
  }

#if defined(ATTN_HOPPER)
  static constexpr int kPairs = 4;  ///< of a thread at a time: two times 8 bytes

  /// Of a tile of queries, the first one of which is query i0, rows [0, end), by `threads` threads.
  template <class T, int kWidth>
  ATTN_DEVICE void rotate_tile(uint32_t queries, uint32_t i0, int end, int thread, int threads) const {
    constexpr int kUnits = kWidth / (2 * kPairs);  // of a row; registers are few: one number tells all places
    ATTN_ROLL
    for (int unit = thread; unit < end * kUnits; unit += threads) {
      const int row = unit / kUnits, pair = unit % kUnits * kPairs;
      if (pair >= pairs) continue;
      const int64_t at = int64_t{first_row + i0 + static_cast<uint32_t>(row)} * pairs + pair;
      const auto c = *reinterpret_cast<const PairNumbers<kPairs>*>(cosine + at),
                 s = *reinterpret_cast<const PairNumbers<kPairs>*>(sine + at);
      const int channel = interleaved ? 2 * pair : pair, further = interleaved ? kPairs : pairs;
      const uint32_t first = query_place<kWidth>(queries, row, channel),
                     second = query_place<kWidth>(queries, row, channel + further);
      float channels[2 * kPairs];
      read<T>(first, channels);
      read<T>(second, channels + kPairs);
      if (interleaved) {
        rotate_pairs<true>(c, s, channels);
      } else {
        rotate_pairs<false>(c, s, channels);
      }
      write<T>(channels, first);
      write<T>(channels + kPairs, second);
    }
  }
  /// One channel of query i, `row` in memory, as the above leaves it.
  template <class T>
  ATTN_DEVICE float rotated(const T* row, int64_t i, int channel) const {
    const bool second = interleaved ? channel % 2 == 1 : channel >= pairs;
    const int pair = interleaved ? channel / 2 : second ? channel - pairs : channel;
    const int64_t at = (first_row + i) * pairs + pair;
    const ChannelPair channels = rope_channels(interleaved, 2 * pairs, pair);
    const float x = to_float(row[channels.first]), y = to_float(row[channels.second]);
    const float number = second ? x * sine[at] + y * cosine[at] : x * cosine[at] - y * sine[at];
    return to_float(half_of<T>(pack<T>(number, number), 0));
  }

 private:
  template <class T>
  ATTN_DEVICE static void read(uint32_t from, float* channels) {
    ATTN_UNROLL
    for (int word = 0; word < kPairs / 2; ++word) {
      const auto bits = static_cast<uint32_t>(shared_load(from + 4 * static_cast<uint32_t>(word)));
      channels[2 * word] = to_float(half_of<T>(bits, 0));
      channels[2 * word + 1] = to_float(half_of<T>(bits, 1));
    }
  }
  template <class T>
  ATTN_DEVICE static void write(const float* channels, uint32_t to) {
    ATTN_UNROLL
    for (int word = 0; word < kPairs / 2; ++word) {
      const uint32_t bits = pack<T>(channels[2 * word], channels[2 * word + 1]);
      shared_store(to + 4 * static_cast<uint32_t>(word), static_cast<int>(bits));
    }
  }
#endif
};

}  // namespace attn
