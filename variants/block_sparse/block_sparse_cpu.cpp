// Block-sparse attention on the CPU, forward and backward: exact attention over the tiles its mask shows.
//
// The mask (band of causal and window, key lengths, block file) becomes a list of visited key tiles per query
// block, once, in prepare(); the arithmetic is that of flash/cpu. Under a block file, blocks are smaller than
// flash's and key tiles follow the file, so that few tiles are read in vain.
//
// Time O(h d visited pairs), workspace O(n + tiles). Child et al. 2019 (Sparse Transformer); Dao et al. 2022,
// section 3.3.

#include <algorithm>

#include "variants/common/tiled_attention.h"

namespace attn {
namespace {

/// Key tiles take the block file's width where that is workable.
int64_t key_tile_of(const Problem& p) {
  const MaskRule rule = p.mask_rule();
  return rule.blocks && rule.block_kv >= 16 && rule.block_kv <= 128 ? rule.block_kv : kKeyTile;
}

Tiling tiling_of(const Context& context, const Problem& p) {
  const int64_t longest = choose_tiling(context, p).query_block;
  return {p.mask.has_blocks() ? std::min(longest, 4 * kQueryStep) : longest, key_tile_of(p)};
}

struct Scratch {
  TiledScratch tiled;
  int64_t* begin;  // [batch * query blocks + 1]
  int32_t* tiles;  // [visited tiles]
  int64_t rows;

  /// `prepared`: the lists are there already, and their length with them.
  static Scratch take(const Context& context, const Problem& p, Workspace& workspace, bool prepared) {
    const Tiling tiling = tiling_of(context, p);
    Scratch s;
    s.tiled = TiledScratch::take(context, p, tiling, workspace);
    s.rows = p.batch * tiling.query_blocks(p);
    s.begin = workspace.take<int64_t>("tile list begins", s.rows + 1);
    const int64_t count = prepared ? s.begin[s.rows] : visit_tiles(p, tiling, nullptr, nullptr);
    s.tiles = workspace.take<int32_t>("visited tiles", count);
    return s;
  }

  /// Counts the visited tiles, and lists them where `begin` and `tiles` are given.
  static int64_t visit_tiles(const Problem& p, const Tiling& tiling, int64_t* begin, int32_t* tiles) {
    const MaskRule rule = p.mask_rule();
    const int64_t blocks = tiling.query_blocks(p);
    int64_t count = 0;
    for (int64_t row = 0; row < p.batch * blocks; ++row) {
      if (begin) begin[row] = count;
      const int64_t i0 = row % blocks * tiling.query_block, i1 = std::min(i0 + tiling.query_block, p.seq_q);
      const TileRange band = band_tiles(rule, row / blocks, i0, i1, tiling.key_tile);
      if (!tiles && !rule.blocks) {
        count += band.last - band.first;
        continue;
      }
      for (int64_t tile = band.first; tile < band.last; ++tile) {
        const int64_t j0 = tile * tiling.key_tile, j1 = std::min(j0 + tiling.key_tile, p.seq_kv);
        if (rule.tile(row / blocks, i0, i1, j0, j1) == TileKind::empty) continue;
        if (tiles) tiles[count] = static_cast<int32_t>(tile);
        ++count;
      }
    }
    if (begin) begin[p.batch * blocks] = count;
    return count;
  }

  TileLists lists() const { return {begin, tiles}; }
};

class BlockSparseCpu final : public Variant {
 public:
  BlockSparseCpu()
      : Variant({.name = "block_sparse/cpu",
                 .family = "sparse",
                 .tags = {"fused", "simd"},
                 .citation = "Child et al. 2019; Dao et al. 2022"}) {}

  Support supports(const Problem& p) const override {
    if (p.mask.none()) return {"needs a mask: without one there is nothing to leave out"};
    return {};
  }

  void plan(const Context& context, const Problem& p, Workspace& workspace) const override {
    Scratch::take(context, p, workspace, false);
  }

  Cost cost(const Problem& p) const override {
    Cost cost = tiled_cost(p, key_tile_of(p));
    cost.memory_order = "O(n + tiles)";
    return cost;
  }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    const Scratch scratch = Scratch::take(context, p, workspace, false);
    scratch.tiled.prepare(p);
    Scratch::visit_tiles(p, tiling_of(context, p), scratch.begin, scratch.tiles);
  }

  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const Scratch scratch = Scratch::take(context, p, workspace, true);
    tiled_forward(context, p, args, tiling_of(context, p), scratch.lists(), scratch.tiled);
  }

  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    const Scratch scratch = Scratch::take(context, p, workspace, true);
    tiled_backward(context, p, args, tiling_of(context, p), scratch.lists(), scratch.tiled);
  }
};

ATTN_REGISTER(std::make_unique<BlockSparseCpu>());

}  // namespace
}  // namespace attn
