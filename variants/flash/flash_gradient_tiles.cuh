#pragma once
// Which tiles a thread block of the fused backward works on. Of queries: as in the forward, queries of one
// head against the key tiles that the mask leaves. Of keys: keys of one key/value head against the query
// tiles that see them, for every query head that reads them.

#include "variants/flash/flash_tiles.cuh"

namespace attn {

/// Tiles [first, last) of `queries` queries outside which nothing sees a key of [j0, j1); `rule` is of a
/// batch entry.
ATTN_HOST_DEVICE inline TileRange seeing_tiles(const MaskRule& rule, int64_t seq_q, int64_t j0, int64_t j1,
                                               int64_t queries) {
  if (j1 > rule.seq_kv) j1 = rule.seq_kv;
  if (j1 <= j0) return {0, 0};
  int64_t begin = rule.queries_begin(j0), end = rule.queries_end(j1 - 1);
  if (begin < 0) begin = 0;
  if (end > seq_q) end = seq_q;
  if (end <= begin) return {0, 0};
  return {begin / queries, (end + queries - 1) / queries};
}

/// Those of which band, documents and padding hide no pair with a key of [j0, j1). None where that is beyond
/// the last key: such rows of a block are hidden too.
ATTN_HOST_DEVICE inline TileRange full_seeing_tiles(const MaskRule& rule, int64_t seq_q, int64_t j0,
                                                    int64_t j1, int64_t queries) {
  int64_t begin = rule.queries_begin(j1 - 1), end = rule.queries_end(j0);
  if (begin < 0) begin = 0;
  if (j1 > rule.seq_kv || end <= begin) return {0, 0};
  // the last tile may stick out: what is beyond the last query has no weight
  return {(begin + queries - 1) / queries, end >= seq_q ? (seq_q + queries - 1) / queries : end / queries};
}

/// A block has kRows rows (queries or keys); a tile has kColumns of the other side. The rest as FlashTiles.
template <int kRows, int kColumns, bool kMasked, bool kOfQueries>
struct FlashGradientTiles {
  struct Place {
    int b;
    int row_head;               ///< of q for queries, of k and v for keys
    int column_head;            ///< of the other side: the first that the block needs
    uint32_t r0;                ///< first row
    uint32_t keys;              ///< of the batch entry
    int first, last;            ///< tiles that may have to be visited
    int full_first, full_last;  ///< as in FlashTiles
  };
  /// A tile, and the query head it is visited for: of keys, all heads of the group one after the other.
  struct Step {
    int head;  ///< beyond column_head
    int tile;
  };

  ATTN_HOST_DEVICE static int64_t rows(const FlashShape& shape) {
    return kOfQueries ? shape.seq_q : shape.seq_kv;
  }
  ATTN_HOST_DEVICE static int64_t columns(const FlashShape& shape) {
    return kOfQueries ? shape.seq_kv : shape.seq_q;
  }
  ATTN_HOST_DEVICE static int heads(const FlashShape& shape) {
    return kOfQueries ? 1 : static_cast<int>(shape.group);
  }

  /// `index` is below 2^31. Under a causal mask the blocks with the most work come first.
  ATTN_HOST_DEVICE static Place place_of(const FlashShape& shape, int64_t index) {
    const auto tiles = static_cast<uint32_t>((rows(shape) + kRows - 1) / kRows);
    const auto group = static_cast<int>(shape.group);
    const auto row_heads = static_cast<uint32_t>(kOfQueries ? shape.heads_q : shape.heads_q / shape.group);
    const uint32_t head = static_cast<uint32_t>(index) / tiles, tile = static_cast<uint32_t>(index) % tiles;
    Place place;
    place.b = static_cast<int>(head / row_heads);
    place.row_head = static_cast<int>(head % row_heads);
    place.column_head = kOfQueries ? place.row_head / group : place.row_head * group;
    place.r0 = (kOfQueries ? tiles - 1 - tile : tile) * kRows;
    place.keys = static_cast<uint32_t>(kMasked ? shape.rule.key_length(place.b) : shape.seq_kv);
    TileRange range{0, (columns(shape) + kColumns - 1) / kColumns};
    TileRange full{0, kOfQueries ? columns(shape) / kColumns : range.last};
    if constexpr (kMasked) {
      const MaskRule rule = rule_of(shape, place);
      range = kOfQueries ? visited_tiles(rule, place.r0, end_of(shape, place), kColumns)
                         : seeing_tiles(rule, shape.seq_q, place.r0, int64_t{place.r0} + kRows, kColumns);
      full = kOfQueries ? full_tiles(rule, place.r0, end_of(shape, place), kColumns)
                        : full_seeing_tiles(rule, shape.seq_q, place.r0, int64_t{place.r0} + kRows, kColumns);
    }
    place.first = static_cast<int>(range.first);
    place.last = static_cast<int>(range.last);
    place.full_first = static_cast<int>(full.first);
    place.full_last = static_cast<int>(full.last);
    return place;
  }
  /// Behind the last row.
  ATTN_HOST_DEVICE static int64_t end_of(const FlashShape& shape, const Place& place) {
    const int64_t end = int64_t{place.r0} + kRows;
    return end < rows(shape) ? end : rows(shape);
  }
  /// The mask of the batch entry.
  ATTN_HOST_DEVICE static MaskRule rule_of(const FlashShape& shape, const Place& place) {
    MaskRule rule = shape.rule;
    rule.seq_kv = place.keys;
    rule.lengths = nullptr;
    return rule;
  }
  ATTN_HOST_DEVICE static TileKind kind_of(const FlashShape& shape, const Place& place, int tile) {
    const int64_t r0 = place.r0, r1 = end_of(shape, place), c0 = int64_t{tile} * kColumns;
    const int64_t c1 = c0 + kColumns < columns(shape) ? c0 + kColumns : columns(shape);
    const MaskRule rule = rule_of(shape, place);
    if (kOfQueries) return rule.tile(0, r0, r1, c0, c1 < rule.seq_kv ? c1 : rule.seq_kv);
    return rule.tile(0, c0, c1, r0, r1);
  }

  ATTN_HOST_DEVICE static Step first(const FlashShape& shape, const Place& place) {
    return from(shape, place, {0, place.first});
  }
  ATTN_HOST_DEVICE static Step next(const FlashShape& shape, const Place& place, Step step) {
    return from(shape, place, {step.head, step.tile + 1});
  }
  ATTN_HOST_DEVICE static bool done(const FlashShape& shape, Step step) { return step.head == heads(shape); }

  /// Whether a pair of the tile has to be told apart: hidden by the mask, or a key beyond the last.
  ATTN_HOST_DEVICE static bool is_partial(const FlashShape& shape, const Place& place, Step step) {
    if (!kMasked && !kOfQueries) return false;
    if (step.tile < place.full_first || step.tile >= place.full_last) return true;
    return kMasked && shape.rule.blocks && kind_of(shape, place, step.tile) != TileKind::full;
  }

 private:
  /// The first step from `step` on with something to see.
  ATTN_HOST_DEVICE static Step from(const FlashShape& shape, const Place& place, Step step) {
    if (kMasked && shape.rule.blocks) {
      while (step.tile < place.last && kind_of(shape, place, step.tile) == TileKind::empty) ++step.tile;
    }
    if (step.tile < place.last) return step;
    if (step.head + 1 >= heads(shape)) return {heads(shape), 0};
    step = {step.head + 1, place.first};
    if (kMasked && shape.rule.blocks) {
      while (step.tile < place.last && kind_of(shape, place, step.tile) == TileKind::empty) ++step.tile;
    }
    return step.tile < place.last ? step : Step{heads(shape), 0};
  }
};

/// Blocks of `keys` keys of every key/value head.
inline int64_t flash_key_blocks(const Problem& p, int64_t keys) {
  return (p.seq_kv + keys - 1) / keys * p.heads_kv * p.batch;
}

/// Query tiles that blocks of `keys` keys visit for one query head, over the batch.
inline int64_t count_seeing_tiles(const Problem& p, int64_t keys, int64_t queries) {
  int64_t count = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    const MaskRule rule = of_batch_entry(p.mask_rule(), b);
    for (int64_t j0 = 0; j0 < p.seq_kv; j0 += keys) {
      const int64_t j1 = std::min(j0 + keys, p.seq_kv);
      const TileRange range = seeing_tiles(rule, p.seq_q, j0, j1, queries);
      if (!p.mask.has_blocks()) {
        count += range.last - range.first;
        continue;
      }
      for (int64_t tile = range.first; tile < range.last; ++tile) {
        const int64_t i0 = tile * queries, i1 = std::min(i0 + queries, p.seq_q);
        count += rule.tile(0, i0, i1, j0, j1) != TileKind::empty;
      }
    }
  }
  return count;
}

}  // namespace attn
