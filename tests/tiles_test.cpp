// The tiles of a band by arithmetic against asking each of them.

#include <fmt/format.h>

#include <algorithm>

#include "tests/catch.h"
#include "variants/common/tiled_attention.h"

using namespace attn;

namespace {

std::vector<Problem> banded_problems() {
  std::vector<Problem> problems;
  const std::pair<int, int> lengths[] = {{1, 1},     {16, 16},   {65, 65}, {200, 200},
                                         {100, 300}, {300, 100}, {7, 0}};
  for (const auto& [queries, keys] : lengths) {
    for (const char* mask : {"none", "causal", "causal:topleft", "window:20:0", "window:0:20", "window:*:5",
                             "causal+window:63:0", "padding:50%", "causal+padding:30%/80%",
                             "window:9:9+padding:10%", "causal:topleft+window:5:*"}) {
      for (const char* pass : {"fwd", "bwd"}) {
        problems.push_back(Problem::parse(
            fmt::format("b=2,hq=1,nq={},nk={},d=8,mask={},pass={}", queries, keys, mask, pass)));
      }
    }
  }
  for (const char* mask : {"document:20", "document:64/1/100", "causal+document:30/9",
                           "window:9:4+document:17/70", "causal+padding:130/200+document:50/33"}) {
    for (const char* pass : {"fwd", "bwd"})
      problems.push_back(Problem::parse(fmt::format("b=2,hq=1,nq=200,d=8,mask={},pass={}", mask, pass)));
  }
  return problems;
}

/// What tiled_cost counts, tile by tile.
double pairs_by_tile(const Problem& p, int64_t key_tile) {
  const MaskRule rule = p.mask_rule();
  double pairs = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i0 = 0; i0 < p.seq_q; i0 += kQueryStep) {
      const int64_t i1 = std::min(i0 + kQueryStep, p.seq_q);
      for (int64_t j0 = 0; j0 < p.seq_kv; j0 += key_tile) {
        const int64_t j1 = std::min(j0 + key_tile, p.seq_kv);
        const TileKind kind = rule.tile(b, i0, i1, j0, j1);
        if (kind == TileKind::empty) continue;
        KeyRange keys{j0, j1};
        if (kind == TileKind::partial && p.pass == Pass::fwd) {
          const KeyRange band = rule.rows_range(b, i0, i1);
          keys = {std::max(j0, band.begin), std::min(j1, band.end)};
        }
        pairs += static_cast<double>((i1 - i0) * (keys.end - keys.begin));
      }
    }
  }
  return pairs;
}

}  // namespace

TEST_CASE("the tiles of a band are those that are not empty") {
  for (const Problem& p : banded_problems()) {
    const MaskRule rule = p.mask_rule();
    for (const int64_t key_tile : {16, 64, 128}) {
      for (int64_t b = 0; b < p.batch; ++b) {
        for (int64_t i0 = 0; i0 < p.seq_q; i0 += 48) {
          const int64_t i1 = std::min(i0 + 48, p.seq_q);
          const TileRange range = band_tiles(rule, b, i0, i1, key_tile);
          INFO(p.text() << ", queries " << i0 << " to " << i1 << ", tiles of " << key_tile);
          for (int64_t tile = 0; tile * key_tile < p.seq_kv; ++tile) {
            const int64_t j0 = tile * key_tile, j1 = std::min(j0 + key_tile, p.seq_kv);
            const bool shown = rule.tile(b, i0, i1, j0, j1) != TileKind::empty;
            CHECK(shown == (range.first <= tile && tile < range.last));
          }
          CHECK(range.last * key_tile < p.seq_kv + key_tile);
        }
      }
    }
  }
}

TEST_CASE("the declared cost counts what is executed, tile by tile") {
  for (const Problem& p : banded_problems()) {
    for (const int64_t key_tile : {16, 64, 128}) {
      INFO(p.text() << ", tiles of " << key_tile);
      CHECK(tiled_cost(p, key_tile).exps == pairs_by_tile(p, key_tile));
    }
  }
}
