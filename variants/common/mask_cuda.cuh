#pragma once
// The mask on the device: MaskRule with its arrays in device memory, and the keys a block of queries has to
// visit.

#include <vector>

#include "harness/variant.h"
#include "variants/common/block.cuh"

namespace attn {

/// The arrays of a MaskRule in the workspace.
class DeviceMask {
 public:
  static DeviceMask take(const Problem& p, Workspace& workspace) {
    const MaskRule rule = p.mask_rule();
    DeviceMask mask;
    if (rule.lengths) mask.lengths_ = workspace.take<KeyLength>("mask lengths", rule.lengths_count);
    if (rule.documents) mask.documents_ = workspace.take<DocumentSpan>("mask documents", documents_count(p));
    if (rule.blocks) mask.blocks_ = workspace.take<uint8_t>("mask blocks", blocks_count(p, rule));
    return mask;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    const MaskRule rule = p.mask_rule();
    if (lengths_)
      queue.upload(lengths_, rule.lengths, static_cast<size_t>(rule.lengths_count) * sizeof(KeyLength));
    if (documents_)
      queue.upload(documents_, rule.documents,
                   static_cast<size_t>(documents_count(p)) * sizeof(DocumentSpan));
    if (blocks_) queue.upload(blocks_, rule.blocks, static_cast<size_t>(blocks_count(p, rule)));
  }
  /// The rule of the problem, over device memory.
  MaskRule rule(const Problem& p) const {
    MaskRule rule = p.mask_rule();
    rule.lengths = lengths_;
    rule.documents = documents_;
    rule.blocks = blocks_;
    return rule;
  }

 private:
  static int64_t blocks_count(const Problem& p, const MaskRule& rule) {
    return (p.seq_q + rule.block_q - 1) / rule.block_q * rule.block_columns;
  }
  static int64_t documents_count(const Problem& p) { return p.seq_q + MaskRule::kBehind; }
  KeyLength* lengths_ = nullptr;
  DocumentSpan* documents_ = nullptr;
  uint8_t* blocks_ = nullptr;
};

/// In 32 bits: distances far beyond a tile are alike.
ATTN_DEVICE int near_distance(int64_t distance) {
  constexpr int kFar = 1 << 20;
  return static_cast<int>(distance < -kFar ? -kFar : distance > kFar ? kFar : distance);
}

/// Leaves of elements [begin, end) of a tile that starts at position `first` those in the document of
/// `position`. In 32 bits: documents make sequences short.
ATTN_DEVICE void keep_document(const MaskRule& rule, uint32_t position, int64_t first, int& begin, int& end) {
  const DocumentSpan span = rule.documents[position];
  const int from = span.begin - static_cast<int>(first), to = span.end - static_cast<int>(first);
  if (begin < from) begin = from;
  if (to < end) end = to;
}

/// The rule of one batch entry, so that inner loops need not look its length up.
ATTN_HOST_DEVICE inline MaskRule of_batch_entry(MaskRule rule, int64_t b) {
  rule.seq_kv = rule.key_length(b);
  rule.lengths = nullptr;
  return rule;
}

/// Tiles [first, last) of `keys` keys outside which no query of [i0, i1) sees anything; `rule` is of a batch
/// entry.
struct TileRange {
  int64_t first;
  int64_t last;
};
ATTN_HOST_DEVICE inline TileRange visited_tiles(const MaskRule& rule, int64_t i0, int64_t i1, int64_t keys) {
  int64_t begin = rule.keys_begin(i0), end = rule.keys_end(i1 - 1);
  if (begin < 0) begin = 0;
  if (end > rule.seq_kv) end = rule.seq_kv;
  if (end <= begin) return {0, 0};
  return {begin / keys, (end + keys - 1) / keys};
}

/// Tiles [first, last) of `keys` keys of which band, documents and padding hide nothing from any query of
/// [i0, i1); `rule` is of a batch entry.
ATTN_HOST_DEVICE inline TileRange full_tiles(const MaskRule& rule, int64_t i0, int64_t i1, int64_t keys) {
  int64_t begin = rule.keys_begin(i1 - 1), end = rule.keys_end(i0);
  if (begin < 0) begin = 0;
  if (end > rule.seq_kv) end = rule.seq_kv;
  if (end <= begin) return {0, 0};
  return {(begin + keys - 1) / keys, end / keys};
}

/// The first tile from `tile` on that is not empty, or range.last.
ATTN_HOST_DEVICE inline int64_t next_tile(const MaskRule& rule, int64_t i0, int64_t i1, int64_t keys,
                                          int64_t tile, const TileRange& range) {
  for (; tile < range.last; ++tile) {
    const int64_t j0 = tile * keys, j1 = j0 + keys < rule.seq_kv ? j0 + keys : rule.seq_kv;
    if (rule.tile(0, i0, i1, j0, j1) != TileKind::empty) break;
  }
  return tile;
}

}  // namespace attn
