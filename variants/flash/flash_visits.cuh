#pragma once
// The key tiles that rows of tiles visit under a block mask: a table in the workspace, made on the host once
// a problem. Kernels read it instead of asking the mask tile by tile, which costs them more than the tiles.

#include "variants/flash/flash_tiles.cuh"

namespace attn {

/// A visit is the number of a key tile, and kCutTile where the block mask hides a pair that the band leaves.
inline constexpr int kCutTile = INT32_MIN;

/// For every row of tiles, which is the same for all batch entries and heads: word t is the first visit from
/// tile t on. The visit of a tile that is not there is the end.
struct TileVisits {
  int* words = nullptr;  // [rows of tiles, stride]; null without a block mask
  int64_t stride = 0;    ///< tiles, and two beyond them, so that what follows the end is the end

  static int64_t stride_of(const Problem& p, int64_t keys) { return (p.seq_kv + keys - 1) / keys + 2; }
  static TileVisits take(const Problem& p, int64_t rows, int64_t keys, Workspace& workspace) {
    if (!p.mask.has_blocks()) return {};
    TileVisits visits;
    visits.stride = stride_of(p, keys);
    visits.words = workspace.take<int>("mask visits", (p.seq_q + rows - 1) / rows * visits.stride);
    return visits;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p, int64_t rows, int64_t keys) const {
    if (!words) return;
    const std::vector<int> all = list(p, rows, keys);
    queue.upload(words, all.data(), all.size() * sizeof(int));
  }
  /// Of row of tiles `row`, the first visit from `tile` on.
  ATTN_HOST_DEVICE int from(uint32_t row, int tile) const { return words[row * stride + tile]; }

  /// Key lengths are left out: they end a row of tiles early.
  static std::vector<int> list(const Problem& p, int64_t rows, int64_t keys) {
    MaskRule rule = p.mask_rule();
    rule.lengths = nullptr;
    const int64_t stride = stride_of(p, keys), tiles = stride - 2;
    std::vector<int> words(static_cast<size_t>((p.seq_q + rows - 1) / rows * stride));
    int* row = words.data();
    for (int64_t i0 = 0; i0 < p.seq_q; i0 += rows, row += stride) {
      const int64_t i1 = std::min(i0 + rows, p.seq_q);
      row[tiles] = row[tiles + 1] = static_cast<int>(tiles);
      for (int64_t tile = tiles - 1; tile >= 0; --tile) {
        const int64_t j0 = tile * keys, j1 = std::min(j0 + keys, p.seq_kv);
        const TileKind kind = rule.tile(0, i0, i1, j0, j1);
        const bool cut = kind == TileKind::partial && blocks_cut(rule, i0, i1, j0, j1);
        row[tile] = kind == TileKind::empty ? row[tile + 1] : static_cast<int>(tile) | (cut ? kCutTile : 0);
      }
    }
    return words;
  }

 private:
  /// Whether a hidden block has a pair, of queries [i0, i1) and keys [j0, j1), that the band leaves.
  static bool blocks_cut(const MaskRule& rule, int64_t i0, int64_t i1, int64_t j0, int64_t j1) {
    MaskRule band = rule;
    band.blocks = nullptr;
    for (int64_t r = i0 / rule.block_q; r * rule.block_q < i1; ++r) {
      const int64_t begin = std::max(r * rule.block_q, i0), end = std::min((r + 1) * rule.block_q, i1);
      for (int64_t c = j0 / rule.block_kv; c * rule.block_kv < j1; ++c) {
        if (rule.blocks[r * rule.block_columns + c]) continue;
        const int64_t first = std::max(c * rule.block_kv, j0), last = std::min((c + 1) * rule.block_kv, j1);
        if (band.tile(0, begin, end, first, last) != TileKind::empty) return true;
      }
    }
    return false;
  }
};

/// What kernels with such a table know of their work.
struct FlashVisitShape : FlashShape {
  TileVisits visits;
};

}  // namespace attn
