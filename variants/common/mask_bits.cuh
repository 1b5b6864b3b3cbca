#pragma once
// Which elements of a tile a block mask shows to a thread, without a division for each.

#include "harness/problem/mask.h"
#include "variants/common/device.cuh"
#include "variants/common/mma_layout.h"

namespace attn {

/// The blocks of a mask across the keys of one query, or the queries of one key: positions [0, length).
struct MaskLine {
  const uint8_t* blocks;  ///< 1 = visible
  int64_t stride;         ///< from block to block
  int64_t size;           ///< positions of a block
  int64_t length;         ///< at most 2^31

  /// Beyond the last query that of the last one.
  ATTN_HOST_DEVICE static MaskLine of_query(const MaskRule& rule, int64_t seq_q, int64_t seq_kv, int64_t i) {
    const int64_t row = MaskRule::block_of(i < seq_q ? i : seq_q - 1, rule.block_q);
    return {rule.blocks + row * rule.block_columns, 1, rule.block_kv, seq_kv};
  }
  /// Beyond the last key that of the last one.
  ATTN_HOST_DEVICE static MaskLine of_key(const MaskRule& rule, int64_t seq_q, int64_t seq_kv, int64_t j) {
    const int64_t column = MaskRule::block_of(j < seq_kv ? j : seq_kv - 1, rule.block_kv);
    return {rule.blocks + column, rule.block_columns, rule.block_q, seq_q};
  }
};

/// Bits of a lane's columns among the first `end` of a tile, 0 < end < 128; bit 2 n + e: column
/// mma_c(lane, e).column of the eight n.
ATTN_DEVICE uint32_t bits_in_front(int end, int lane) {
  const int rest = (end & 7) - mma_c(lane, 0).column;
  return (1u << ((end >> 3) * 2) << (rest < 0 ? 0 : rest < 2 ? rest : 2)) - 1;  // may shift the one out
}

/// The same bits, set where the mask shows the position, for a tile from `first` on. Beyond the last position
/// they say nothing. Goes from the last block to the first, each of which decides for all in front of its
/// end: one load each.
template <int kColumns>
ATTN_DEVICE uint32_t visible_bits(const MaskLine& line, uint32_t first, int lane) {
  static_assert(kColumns <= 128, "four lanes share a row, and each has 32 bits");
  const auto length = static_cast<uint32_t>(line.length);
  const uint32_t size = line.size < line.length ? static_cast<uint32_t>(line.size) : length;
  const uint32_t block = ((length - first < kColumns ? length : first + kColumns) - 1) / size;
  const uint8_t* visible = line.blocks + block * line.stride;
  uint32_t bits = *visible ? ~0u : 0;
  ATTN_ROLL
  for (int end = static_cast<int>(block * size - first); end > 0; end -= static_cast<int>(size)) {
    const uint32_t front = bits_in_front(end, lane);
    visible -= line.stride;
    bits = *visible ? bits | front : bits & ~front;
  }
  return bits;
}

}  // namespace attn
