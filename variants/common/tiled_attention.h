#pragma once
// The tiled online softmax that flash/cpu and block_sparse/cpu share: they differ in the tiles they visit.
//
// A task is a block of queries of one head. Its queries stay transposed in cache; key tiles stream past;
// maximum, sum and output are rescaled as the maximum grows (FlashAttention, Dao et al. 2022, algorithm 1).
// The backward recomputes P from the LSE (algorithm 4). Mask arithmetic runs in partial tiles only. Memory is
// O(n).

#include "harness/variant.h"
#include "variants/common/position_cpu.h"

namespace attn {

/// Queries of a block come in strips of 2 vectors: 8, 16 or 32 of them, by instruction set.
inline constexpr int64_t kQueryStep = 32;
/// Keys of a tile, unless a block mask asks for another width.
inline constexpr int64_t kKeyTile = 64;

struct Tiling {
  int64_t query_block;  ///< a multiple of kQueryStep
  int64_t key_tile;

  int64_t query_blocks(const Problem& p) const { return (p.seq_q + query_block - 1) / query_block; }
  int64_t key_tiles(const Problem& p) const { return (p.seq_kv + key_tile - 1) / key_tile; }
};

/// Keys of a chunk when few queries meet many keys.
inline constexpr int64_t kDecodeChunk = 512;
/// Queries that share a key/value head.
inline int64_t decode_rows(const Problem& p) { return p.seq_q * p.group(); }
inline int64_t decode_chunks(const Problem& p) { return (p.seq_kv + kDecodeChunk - 1) / kDecodeChunk; }
/// Whether a forward has so few queries that a strip of them would be mostly empty: then vectors run along
/// the keys (tiled_decode.cpp). Block masks and Shaw's tables stay with the other way.
bool decodes(const Problem& problem);
/// Key/value heads of one task there: as many as keep a strip of keys in a quarter of the second-level cache,
/// less where the threads would run out of tasks.
int64_t decode_heads(const Context& context, const Problem& problem);

/// Blocks as long as queries and output fill a quarter of the second-level cache, because every block copies
/// the key tiles anew; but at least four blocks a thread where the problem has them.
Tiling choose_tiling(const Context& context, const Problem& problem);

/// Key tiles to visit, ascending, for every (batch entry, query block): tiles[begin[r]] to tiles[begin[r +
/// 1]] with r = b * blocks + block. Null: every tile that MaskRule::tile does not call empty, found as the
/// block starts.
struct TileLists {
  const int64_t* begin = nullptr;
  const int32_t* tiles = nullptr;
};

/// Scratch of one call; the pass decides what is in it.
struct TiledScratch {
  RopeTable rope;
  ToeplitzBias bias;
  float* blocks = nullptr;  // [threads, floats_per_block]
  int64_t floats_per_block = 0;
  int32_t* tile_lists = nullptr;  // [threads, key tiles]
  float* partials = nullptr;      // decode: [chunks, batch, heads_kv, floats_per_partial]
  int64_t floats_per_partial = 0;
  float* gradients = nullptr;  // backward: [tasks at once, floats_per_gradient]
  int64_t floats_per_gradient = 0;
  float* table_sums = nullptr;  // backward: [tasks, floats_per_table]
  int64_t floats_per_table = 0;
  float* bias_sums = nullptr;  // backward with T5: [splits, batch, heads_q, padded bias width]

  static TiledScratch take(const Context& context, const Problem& problem, const Tiling& tiling,
                           Workspace& workspace);
  void prepare(const Problem& problem) const;
};

void tiled_forward(const Context& context, const Problem& problem, const Forward& args, const Tiling& tiling,
                   const TileLists& lists, const TiledScratch& scratch);
/// tiled_forward of a problem that decodes().
void tiled_decode(const Context& context, const Problem& problem, const Forward& args,
                  const TiledScratch& scratch);
void tiled_backward(const Context& context, const Problem& problem, const Backward& args,
                    const Tiling& tiling, const TileLists& lists, const TiledScratch& scratch);

/// Key tiles [first, last) that queries [i0, i1) meet as far as band and padding say: those that
/// MaskRule::tile does not call empty, without asking each. For all n queries that is O(n).
struct TileRange {
  int64_t first = 0, last = 0;
};
TileRange band_tiles(const MaskRule& rule, int64_t b, int64_t i0, int64_t i1, int64_t key_tile);

/// What is executed, visible or not, with key tiles of this size.
Cost tiled_cost(const Problem& problem, int64_t key_tile);

}  // namespace attn
