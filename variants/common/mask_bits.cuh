#pragma once
// Which keys of a tile a block mask shows to a thread, without a division for each.

#include "harness/problem/mask.h"
#include "variants/common/device.cuh"
#include "variants/common/mma_layout.h"

namespace attn {

/// The blocks of a mask across the keys of one query.
struct MaskLine {
  const uint8_t* blocks;  ///< 1 = visible
  int64_t size;           ///< keys of a block
  int64_t keys;           ///< of the problem, at most 2^31

  /// Of query i; beyond the last query that of the last one.
  ATTN_HOST_DEVICE static MaskLine of(const MaskRule& rule, int64_t seq_q, int64_t seq_kv, int64_t i) {
    const int64_t row = MaskRule::block_of(i < seq_q ? i : seq_q - 1, rule.block_q);
    return {rule.blocks + row * rule.block_columns, rule.block_kv, seq_kv};
  }
};

/// Bits of a lane's keys among the first `end` of a tile, 0 < end < 128; bit 2 n + e: key
/// mma_c(lane, e).column of the eight keys n.
ATTN_DEVICE uint32_t bits_in_front(int end, int lane) {
  const int rest = (end & 7) - mma_c(lane, 0).column;
  return (1u << ((end >> 3) * 2) << (rest < 0 ? 0 : rest < 2 ? rest : 2)) - 1;  // may shift the one out
}

/// The same bits, set where the mask shows the key of the tile from key `first` on. Beyond the last key they
/// say nothing. Goes from the last block to the first, each of which decides for all in front of its end: one
/// load each.
template <int kKeys>
ATTN_DEVICE uint32_t visible_bits(const MaskLine& line, uint32_t first, int lane) {
  static_assert(kKeys <= 128, "four lanes share a row, and each has 32 bits");
  const auto keys = static_cast<uint32_t>(line.keys);
  const uint32_t size = line.size < line.keys ? static_cast<uint32_t>(line.size) : keys;
  const uint32_t block = ((keys - first < kKeys ? keys : first + kKeys) - 1) / size;
  const uint8_t* visible = line.blocks + block;
  uint32_t bits = *visible ? ~0u : 0;
  ATTN_ROLL
  for (int end = static_cast<int>(block * size - first); end > 0; end -= static_cast<int>(size)) {
    const uint32_t front = bits_in_front(end, lane);
    bits = *--visible ? bits | front : bits & ~front;
  }
  return bits;
}

}  // namespace attn
