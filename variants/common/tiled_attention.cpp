#include "variants/common/tiled_attention.h"

#include "harness/measure/topology.h"
#include "variants/common/tiled_memory.h"

namespace attn {
namespace {

/// Of one core.
int64_t second_level_cache_bytes() {
  const int64_t found = topology().bytes_of_core("L2");
  return found > 0 ? found : int64_t{512} << 10;
}

}  // namespace

bool decodes(const Problem& p) {
  constexpr int64_t kMostRows = 16;
  return p.pass == Pass::fwd && decode_rows(p) <= kMostRows && !p.mask.has_blocks() && !p.position.shaw();
}

int64_t decode_heads(const Context& context, const Problem& p) {
  const int64_t strip_bytes =
      kQueryStep * (p.head_dim + p.value_dim) * static_cast<int64_t>(bytes_of(p.dtype));
  const int64_t by_cache = second_level_cache_bytes() / 4 / strip_bytes;
  const int64_t by_threads = decode_chunks(p) * p.batch * p.heads_kv / (4 * context.threads);
  return std::clamp(std::min(by_cache, by_threads), int64_t{1}, p.heads_kv);
}

Tiling choose_tiling(const Context& context, const Problem& p) {
  const int64_t by_cache = second_level_cache_bytes() / 4 / (4 * (p.head_dim + p.value_dim));
  const int64_t by_threads = p.batch * p.heads_q * p.seq_q / (4 * context.threads);
  const int64_t longest = std::max({std::min(by_cache, by_threads), kQueryStep});
  const int64_t blocks = (p.seq_q + longest - 1) / longest;  // of equal length
  return {round_up((p.seq_q + blocks - 1) / blocks, kQueryStep), kKeyTile};
}

TiledScratch TiledScratch::take(const Context& context, const Problem& p, const Tiling& tiling,
                                Workspace& workspace) {
  TiledScratch s;
  s.rope = RopeTable::take(p, workspace);
  s.bias = ToeplitzBias::take(p, workspace);
  Carver block(nullptr);
  if (decodes(p)) {
    DecodeMemory::carve(block, p, decode_heads(context, p) - 1);
    Carver partial(nullptr);
    PartialMemory::carve(partial, p);
    s.floats_per_block = block.used();
    s.blocks = workspace.take<float>("few queries", context.threads * s.floats_per_block);
    s.floats_per_partial = partial.used();
    s.partials = workspace.take<float>("partial results",
                                       decode_chunks(p) * p.batch * p.heads_kv * s.floats_per_partial);
    return s;
  }
  if (p.pass == Pass::fwd) {
    ForwardMemory::carve(block, p, tiling);
  } else {
    BackwardMemory::carve(block, p, tiling);
  }
  s.floats_per_block = block.used();
  s.blocks = workspace.take<float>("query blocks", context.threads * s.floats_per_block);
  s.tile_lists = workspace.take<int32_t>("tile lists", context.threads * tiling.key_tiles(p));
  if (p.pass == Pass::fwd) return s;

  Carver gradient(nullptr);
  GradientMemory::carve(gradient, p);
  s.floats_per_gradient = gradient.used();
  const int64_t splits = backward_splits(context, p), tasks = p.batch * p.heads_kv * splits;
  s.gradients =
      workspace.take<float>("gradient sums", (splits > 1 ? tasks : context.threads) * s.floats_per_gradient);
  Carver table(nullptr);
  TableMemory::carve(table, p);
  s.floats_per_table = table.used();
  s.table_sums = workspace.take<float>("table gradient sums", tasks * s.floats_per_table);
  if (p.position.t5()) {
    s.bias_sums =
        workspace.take<float>("bias gradient sums", p.batch * p.heads_q * splits * s.bias.padded_width());
  }
  return s;
}

void TiledScratch::prepare(const Problem& p) const {
  rope.fill(p);
  bias.prepare(p);
}

TileRange band_tiles(const MaskRule& rule, int64_t b, int64_t i0, int64_t i1, int64_t key_tile) {
  const int64_t lowest = std::max(rule.keys_begin(i0), int64_t{0});
  const int64_t highest = std::min(rule.keys_end(i1 - 1), rule.key_length(b)) - 1;
  if (highest < 0 || lowest >= rule.seq_kv || lowest / key_tile > highest / key_tile) return {};
  return {lowest / key_tile, highest / key_tile + 1};
}

namespace {

/// Pairs that queries [i0, i1) of batch entry b execute.
double executed_pairs(const Problem& p, const MaskRule& rule, int64_t b, int64_t i0, int64_t i1,
                      int64_t key_tile) {
  const TileRange tiles = band_tiles(rule, b, i0, i1, key_tile);
  if (tiles.first == tiles.last) return 0;
  KeyRange keys{tiles.first * key_tile, std::min(tiles.last * key_tile, p.seq_kv)};
  const auto queries = static_cast<double>(i1 - i0);
  const KeyRange band = rule.rows_range(b, i0, i1);
  const bool trims = p.pass == Pass::fwd;  // the forward trims a tile to the band
  if (!rule.blocks) {
    if (trims) keys = {std::max(keys.begin, band.begin), std::min(keys.end, band.end)};
    return queries * static_cast<double>(keys.end - keys.begin);
  }
  double pairs = 0;
  for (int64_t j0 = keys.begin; j0 < keys.end; j0 += key_tile) {
    const int64_t j1 = std::min(j0 + key_tile, p.seq_kv);
    const TileKind kind = rule.tile(b, i0, i1, j0, j1);
    if (kind == TileKind::empty) continue;
    const bool trimmed = trims && kind == TileKind::partial;
    pairs +=
        queries * static_cast<double>(trimmed ? std::min(j1, band.end) - std::max(j0, band.begin) : j1 - j0);
  }
  return pairs;
}

}  // namespace

Cost tiled_cost(const Problem& p, int64_t key_tile) {
  const MaskRule rule = p.mask_rule();
  double pairs = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i0 = 0; i0 < p.seq_q; i0 += kQueryStep) {
      pairs += executed_pairs(p, rule, b, i0, std::min(i0 + kQueryStep, p.seq_q), key_tile);
    }
  }
  const auto heads = static_cast<double>(p.heads_q), d = static_cast<double>(p.head_dim),
             dv = static_cast<double>(p.value_dim);
  Cost cost;
  cost.flops_executed = heads * pairs * (p.pass == Pass::fwd ? 2 * (d + dv) : 2 * (3 * d + 2 * dv));
  cost.exps = heads * pairs;
  const auto bytes = static_cast<double>(bytes_of(p.dtype));
  const double own = heads * static_cast<double>(p.batch * p.seq_q) * (bytes * (d + dv) + 4);
  // K and V are copied once a block, and its strips find the copy in cache: counted at the shortest usual
  // block.
  const double streamed = decodes(p) ? bytes * static_cast<double>(p.batch * p.heads_kv * p.seq_kv) * (d + dv)
                                     : bytes * heads * pairs / 192 * (d + dv);
  cost.bytes_moved = p.pass == Pass::fwd ? own + streamed : 2 * own + 3 * streamed;
  cost.time_order = p.mask.none() ? "O(h n^2 d)" : "O(h d tiles)";
  cost.memory_order = "O(n)";
  return cost;
}

}  // namespace attn
