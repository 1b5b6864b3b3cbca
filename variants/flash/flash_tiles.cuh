#pragma once
// Which tiles a thread block of the fused kernels works on: its queries, and the key tiles that the mask
// leaves.

#include <algorithm>

#include "variants/common/mask_bits.cuh"
#include "variants/common/mask_cuda.cuh"
#include "variants/common/mma_layout.h"

namespace attn {

struct FlashShape {
  int64_t heads_q, group, seq_q, seq_kv;
  MaskRule rule;  ///< over device memory

  static FlashShape of(const Problem& p, const MaskRule& rule) {
    return {p.heads_q, p.group(), p.seq_q, p.seq_kv, rule};
  }
};

/// A block has kRows queries of one head; a tile has kKeys keys. kMasked: the problem has a mask. Sequences
/// are at most 2^31 long, so that 32 bits hold a place; the kernels are short of registers.
/// kPacked: it has kRows rows, each a query of one of 2^pack_shift heads, and its Shape has pack_shift.
template <int kRows, int kKeys, bool kMasked, bool kPacked = false>
struct FlashTiles {
  struct Place {
    int b, h, head_kv;          ///< of packed rows, the first head
    uint32_t i0;                ///< first query
    uint32_t keys;              ///< of the batch entry
    int first, last;            ///< tiles that may have to be visited
    int split = 0;              ///< of packed rows: which part of their tiles these are
    int full_first, full_last;  ///< tiles that only a block mask may cut; found once, not tile by tile
  };

  /// Of a row of the block: its query, and its head, counted from those of the place.
  template <class Shape, class Row>
  ATTN_HOST_DEVICE static Row query_of(const Shape& shape, Row row) {
    if constexpr (kPacked) return row >> shape.pack_shift;
    return row;
  }
  template <class Shape>
  ATTN_HOST_DEVICE static int head_of(const Shape& shape, int row) {
    if constexpr (kPacked) return row & ((1 << shape.pack_shift) - 1);
    return 0;
  }

  /// `index` is below 2^31. Later queries first: under a causal mask they have the most work.
  ATTN_HOST_DEVICE static Place place_of(const FlashShape& shape, int64_t index) {
    const auto tiles = static_cast<uint32_t>((shape.seq_q + kRows - 1) / kRows);  // 32 bits divide faster
    const uint32_t head = static_cast<uint32_t>(index) / tiles;
    Place place;
    place.b = static_cast<int>(head / static_cast<uint32_t>(shape.heads_q));
    place.h = static_cast<int>(head % static_cast<uint32_t>(shape.heads_q));
    place.head_kv = place.h / static_cast<int>(shape.group);
    place.i0 = (tiles - 1 - static_cast<uint32_t>(index) % tiles) * kRows;
    find_keys(shape, place);
    return place;
  }
  /// The keys of a place whose head and queries are known.
  template <class Shape>
  ATTN_HOST_DEVICE static void find_keys(const Shape& shape, Place& place) {
    place.keys = static_cast<uint32_t>(kMasked ? shape.rule.key_length(place.b) : shape.seq_kv);
    TileRange range{0, (shape.seq_kv + kKeys - 1) / kKeys}, full{0, shape.seq_kv / kKeys};
    if constexpr (kMasked) {
      range = visited_tiles(rule_of(shape, place), place.i0, end_of(shape, place), kKeys);
      full = full_tiles(rule_of(shape, place), place.i0, end_of(shape, place), kKeys);
    }
    place.first = static_cast<int>(range.first);
    place.last = static_cast<int>(range.last);
    place.full_first = static_cast<int>(full.first);
    place.full_last = static_cast<int>(full.last);
  }
  /// Behind the last query.
  template <class Shape>
  ATTN_HOST_DEVICE static int64_t end_of(const Shape& shape, const Place& place) {
    const int64_t end = int64_t{place.i0} + query_of(shape, kRows);
    return end < shape.seq_q ? end : shape.seq_q;
  }
  /// The mask of the batch entry.
  ATTN_HOST_DEVICE static MaskRule rule_of(const FlashShape& shape, const Place& place) {
    MaskRule rule = shape.rule;
    rule.seq_kv = place.keys;
    rule.lengths = nullptr;
    return rule;
  }
  /// The first tile from `tile` on that some query sees, or place.last.
  ATTN_HOST_DEVICE static int next(const FlashShape& shape, const Place& place, int tile) {
    if (!kMasked || !shape.rule.blocks) return tile;
    const TileRange range{place.first, place.last};
    return static_cast<int>(
        next_tile(rule_of(shape, place), place.i0, end_of(shape, place), kKeys, tile, range));
  }
  /// Whether some pair of the tile is not allowed.
  ATTN_HOST_DEVICE static bool is_partial(const FlashShape& shape, const Place& place, int64_t j0) {
    if (!kMasked) return j0 + kKeys > shape.seq_kv;
    const int tile = static_cast<int>(j0 / kKeys);
    if (tile < place.full_first || tile >= place.full_last) return true;
    if (kMasked && shape.rule.blocks) {
      return rule_of(shape, place).tile(0, place.i0, end_of(shape, place), j0, j0 + kKeys) != TileKind::full;
    }
    return false;
  }
};

inline int64_t flash_blocks(const Problem& p, int64_t rows) {
  return (p.seq_q + rows - 1) / rows * p.heads_q * p.batch;
}

/// visit(i0, tile) for every tile that one head visits, over the batch.
template <class Visit>
void each_visited_tile(const Problem& p, int64_t rows, int64_t keys, Visit visit) {
  for (int64_t b = 0; b < p.batch; ++b) {
    const MaskRule rule = of_batch_entry(p.mask_rule(), b);
    for (int64_t i0 = 0; i0 < p.seq_q; i0 += rows) {
      const int64_t i1 = std::min(i0 + rows, p.seq_q);
      const TileRange range = visited_tiles(rule, i0, i1, keys);
      for (int64_t tile = next_tile(rule, i0, i1, keys, range.first, range); tile < range.last;
           tile = next_tile(rule, i0, i1, keys, tile + 1, range)) {
        visit(i0, tile);
      }
    }
  }
}
inline int64_t count_visited_tiles(const Problem& p, int64_t rows, int64_t keys) {
  int64_t count = 0;
  if (p.mask.has_blocks()) {
    each_visited_tile(p, rows, keys, [&](int64_t, int64_t) { ++count; });
    return count;
  }
  for (int64_t b = 0; b < p.batch; ++b) {
    const MaskRule rule = of_batch_entry(p.mask_rule(), b);
    for (int64_t i0 = 0; i0 < p.seq_q; i0 += rows) {
      const TileRange range = visited_tiles(rule, i0, std::min(i0 + rows, p.seq_q), keys);
      count += range.last - range.first;
    }
  }
  return count;
}

}  // namespace attn
