// Forward of the tiled kernels; see tiled_attention.h.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "variants/common/tiled_forward.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first.
#include <omp.h>

#include "variants/common/tiled_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

void scale_rows(const Vec* factors, int64_t rows, size_t strip, float* values) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  for (int64_t r = 0; r < rows; ++r) {
    for (size_t v = 0; v < kStripVectors; ++v) {
      float* at = values + static_cast<size_t>(r) * strip + v * n;
      hn::Store(hn::Mul(hn::Load(f, at), factors[v]), f, at);
    }
  }
}

/// Moves the reference maximum of the strip to `tile_maximum` where it must, and rescales what depends on it.
void raise_maximum(const TiledCall& call, const ForwardMemory& memory, int64_t s, const float* tile_maximum) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  const auto strip = static_cast<size_t>(call.strip);
  float* maximum = memory.maximum + s * call.strip;
  float* sum = memory.sum + s * call.strip;
  Vec factors[kStripVectors];
  bool any = false;
  for (size_t v = 0; v < kStripVectors; ++v) {
    const Vec old = hn::Load(f, maximum + v * n), tile = hn::Load(f, tile_maximum + v * n);
    const auto moves = hn::Gt(tile, hn::Add(old, hn::Set(f, kLazyMargin)));
    any = any || !hn::AllFalse(f, moves);
    const Vec next = hn::IfThenElse(moves, tile, old);
    factors[v] = hn::IfThenElse(moves, exp2_fast(hn::Sub(old, next)), hn::Set(f, 1.0f));
    hn::Store(next, f, maximum + v * n);
  }
  if (!any) return;
  scale_rows(factors, 1, strip, sum);
  scale_rows(factors, call.p.value_dim, strip, memory.o + s * call.strip * call.p.value_dim);
  if (memory.histogram && call.p.position.shaw_values()) {
    scale_rows(factors, call.skewed_size() / call.strip, strip, memory.histogram + s * call.skewed_size());
  }
}

/// scores := 2^(scores - maximum); adds their sums.
HWY_NOINLINE void exponentiate(const TiledCall& call, const ForwardMemory& memory, int64_t s, size_t rows) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  float* maximum = memory.maximum + s * call.strip;
  float* sum = memory.sum + s * call.strip;
  const Vec lowest = hn::Set(f, -kInfinity);
  for (size_t v = 0; v < kStripVectors; ++v) {
    const Vec reference = hn::Load(f, maximum + v * n);
    const Vec shift = hn::IfThenZeroElse(hn::Eq(reference, lowest), reference);  // -inf - -inf would be NaN
    Vec total = hn::Zero(f);
    float* at = memory.block.scores + v * n;
    for (size_t r = 0; r < rows; ++r, at += kStripVectors * n) {
      const Vec weight = exp2_fast(hn::Sub(hn::Load(f, at), shift));
      hn::Store(weight, f, at);
      total = hn::Add(total, weight);
    }
    hn::Store(hn::Add(hn::Load(f, sum + v * n), total), f, sum + v * n);
  }
}

void visit_strip(const TiledCall& call, const QueryBlock& block, int64_t s, const KeyTile& tile,
                 const ForwardMemory& memory, Ahead& ahead) {
  const TileKind kind = strip_kind(call, block, s, tile);
  if (kind == TileKind::empty) return;
  const bool partial = kind == TileKind::partial;
  const KeyTile keys = partial ? visible_part(call, block, s, tile) : tile;
  HWY_ALIGN float tile_maximum[kQueryStep];
  make_logits<true>(call, block, s, keys, partial, memory.block, tile_maximum, nullptr, ahead);
  raise_maximum(call, memory, s, tile_maximum);
  exponentiate(call, memory, s, keys.rows());
  const auto width = static_cast<size_t>(call.p.value_dim);
  float* o = memory.o + s * call.strip * call.p.value_dim;
  if (partial && !keys.finite) {
    accumulate<true>(memory.block.scores, keys.values, width, width, keys.rows(), o, ahead);
  } else {
    accumulate<false>(memory.block.scores, keys.values, width, width, keys.rows(), o, ahead);
  }
  if (call.p.position.shaw_values()) {
    add_by_distance(call, block.first + s * call.strip, keys, memory.block.scores,
                    memory.histogram + s * call.skewed_size());
  }
}

/// O += sum over distances of P times the Shaw value of the distance.
void add_shaw_values(const TiledCall& call, const QueryBlock& block, const ForwardMemory& memory) {
  Ahead nothing;
  const auto width = static_cast<size_t>(call.p.value_dim);
  for (int64_t s = 0; s < block.strips(call.strip); ++s) {
    unskew(call, memory.histogram + s * call.skewed_size(), memory.block.table);
    accumulate<false>(memory.block.table, call.tables.shaw_value, width, width,
                      static_cast<size_t>(call.p.position.shaw_rows()),
                      memory.o + s * call.strip * call.p.value_dim, nothing);
  }
}

void store_block(const TiledCall& call, const QueryBlock& block, const Forward& args,
                 const ForwardMemory& memory) {
  const int64_t strip = call.strip, width = call.p.value_dim;
  float* lse = args.lse + (block.b * call.p.heads_q + block.h) * call.p.seq_q + block.first;
  HWY_ALIGN float inverse[kQueryStep];
  for (int64_t s = 0; s < block.strips(strip); ++s) {
    for (int64_t lane = 0; lane < strip; ++lane) {
      const float sum = memory.sum[s * strip + lane];
      inverse[lane] = sum == 0 ? 0.0f : 1 / sum;
    }
    untranspose_strip(memory.o + s * strip * width, static_cast<size_t>(width), inverse, memory.block.rows);
    for (int64_t r = s * strip; r < std::min((s + 1) * strip, block.count); ++r) {
      store_row(call.p.dtype, memory.block.rows + r % strip * width, width,
                row_at(args.o, call.p.dtype, block.b, block.first + r, block.h));
      lse[r] = memory.sum[r] == 0 ? -kInfinity : memory.maximum[r] * kLn2 + std::log(memory.sum[r]);
    }
  }
}

void forward_block(const TiledCall& call, const QueryBlock& block, const Forward& args) {
  const int thread = omp_get_thread_num();
  Carver carver(call.scratch.blocks + thread * call.scratch.floats_per_block);
  const ForwardMemory memory = ForwardMemory::carve(carver, call.p, call.tiling);
  const int64_t strips = block.strips(call.strip), lanes = strips * call.strip;
  load_queries(call, block, memory.block);
  std::fill_n(memory.o, lanes * call.p.value_dim, 0.0f);
  std::fill_n(memory.maximum, lanes, -kInfinity);
  std::fill_n(memory.sum, lanes, 0.0f);
  if (call.p.position.shaw()) {
    make_skewed(call, block, memory.block.q, call.tables.shaw_key, call.p.head_dim, memory.block,
                memory.block.skewed);
  }
  if (call.p.position.shaw_values()) {
    std::fill_n(memory.histogram, block.strips(call.strip) * call.skewed_size(), 0.0f);
  }
  int64_t count = 0;
  int32_t* found = call.scratch.tile_lists + thread * call.tiling.key_tiles(call.p);
  const int32_t* tiles = tiles_of(call, block, found, count);
  for (int64_t t = 0; t < count; ++t) {
    const KeyTile keys = load_tile(call, block, tiles[t], block_partial(call, block, tiles[t]), memory.block);
    Ahead ahead;
    if (t + 1 < count) ahead = read_ahead(call, block, visiting_strips(call, block, keys), tiles[t + 1]);
    for (int64_t s = 0; s < strips; ++s) visit_strip(call, block, s, keys, memory, ahead);
  }
  if (call.p.position.shaw_values()) add_shaw_values(call, block, memory);
  store_block(call, block, args, memory);
}

void forward_all(const Context& context, const Problem& p, const Forward& args, const Tiling& tiling,
                 const TileLists& lists, const TiledScratch& scratch) {
  const TiledCall call{p, tiling, lists, scratch, args.q, args.k, args.v, args.tables};
  const int64_t blocks = tiling.query_blocks(p);
  // Head by head, so that its keys stay in cache; last blocks first, since a causal mask makes them the
  // longest.
#pragma omp parallel for num_threads(context.threads) schedule(dynamic)
  for (int64_t task = 0; task < p.batch * p.heads_q * blocks; ++task) {
    const int64_t head = task / blocks, index = blocks - 1 - task % blocks;
    forward_block(call, call.block(head / p.heads_q, head % p.heads_q, index), args);
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attn {

HWY_EXPORT(forward_all);

void tiled_forward(const Context& context, const Problem& p, const Forward& args, const Tiling& tiling,
                   const TileLists& lists, const TiledScratch& scratch) {
  scratch.bias.fill(p, args.tables, std::numbers::log2e, context.threads);
  if (decodes(p)) return tiled_decode(context, p, args, scratch);
  HWY_DYNAMIC_DISPATCH(forward_all)(context, p, args, tiling, lists, scratch);
}

}  // namespace attn
#endif
