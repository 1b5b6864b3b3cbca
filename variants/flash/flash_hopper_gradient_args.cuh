#pragma once
// What a thread block of flash/cuda/hopper's backward is given: operands, sizes, and which keys and queries
// it works on. All of it runs on the host too.

#include "variants/common/tensor_box.h"
#include "variants/flash/flash_backward_rows.cuh"
#include "variants/flash/flash_gradient_tiles.cuh"
#include "variants/flash/flash_hopper_gradient_sums.cuh"

namespace attn {

/// Which tiles of queries a block of keys visits under a block mask: tables in the workspace, made on the
/// host once a problem, the same for all batch entries and heads. Key lengths are left out: blocks beyond
/// them visit nothing, and in other blocks hidden weights are zeros.
struct HopperGradientVisits {
  struct Visit {
    int below;  ///< the next tile that is visited
    int rank;   ///< blocks of lower keys that visit this one
    bool cut;   ///< some pair is hidden
  };
  /// Of a block: its tiles lie in [first, last).
  struct Span {
    int first, last, count;
  };
  Visit* visits = nullptr;  // [key blocks, tiles]; null without a block mask
  Span* spans = nullptr;    // [key blocks]
  int tiles = 0;

  ATTN_HOST_DEVICE explicit operator bool() const { return visits != nullptr; }
  ATTN_HOST_DEVICE const Visit& of(int block, int tile) const {
    return visits[int64_t{block} * tiles + tile];
  }

  struct Lists {
    std::vector<Visit> visits;
    std::vector<Span> spans;
  };
  static Lists list(MaskRule rule, int64_t seq_q, int64_t keys, int64_t queries) {
    rule.lengths = nullptr;
    const auto tiles = static_cast<int>((seq_q + queries - 1) / queries);
    Lists lists;
    std::vector<int> ranks(static_cast<size_t>(tiles));
    for (int64_t j0 = 0; j0 < rule.seq_kv; j0 += keys) {
      Span span{0, 0, 0};
      for (int tile = 0; tile < tiles; ++tile) {
        const int64_t i0 = tile * queries, i1 = std::min(i0 + queries, seq_q);
        const TileKind kind = rule.tile(0, i0, i1, j0, std::min(j0 + keys, rule.seq_kv));
        lists.visits.push_back({span.last - 1, ranks[static_cast<size_t>(tile)], kind == TileKind::partial});
        if (kind == TileKind::empty) continue;
        ++ranks[static_cast<size_t>(tile)];
        if (span.count++ == 0) span.first = tile;
        span.last = tile + 1;
      }
      lists.spans.push_back(span);
    }
    return lists;
  }

  static HopperGradientVisits take(const Problem& p, int64_t keys, int64_t queries, Workspace& workspace) {
    if (!p.mask.has_blocks()) return {};
    const int64_t blocks = (p.seq_kv + keys - 1) / keys, tiles = (p.seq_q + queries - 1) / queries;
    return {workspace.take<Visit>("mask visits", blocks * tiles),
            workspace.take<Span>("mask spans of visits", blocks), static_cast<int>(tiles)};
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p, int64_t keys, int64_t queries) const {
    if (!visits) return;
    const Lists lists = list(p.mask_rule(), p.seq_q, keys, queries);
    queue.upload(visits, lists.visits.data(), lists.visits.size() * sizeof(Visit));
    queue.upload(spans, lists.spans.data(), lists.spans.size() * sizeof(Span));
  }
};

/// Thread blocks have kKeys keys of one key/value head and go through tiles of the queries that see them, of
/// every query head of the group.
///
/// dQ of a tile is added up in memory, block after block in the order of their keys: rank() says how many
/// blocks come before. A block may so wait for blocks of lower tickets only, and tickets are drawn when
/// blocks start: whoever is waited for is running. Tiles are visited from the last one down, so that under a
/// causal mask all blocks of a head may start at once, the longest first. `interleaved` heads take turns,
/// which gives the blocks of one head, that wait for each other, distance in time: the more, the fewer tiles
/// a block visits. All heads at once would not fit the second-level cache: at d = 128 and n = 1024, 128 heads
/// take 1.5 times as long as 16.
struct HopperGradientTiles {
  static constexpr int kKeys = 128;
  static constexpr double kTilesBetween = 400;  ///< tiles of a block times heads that take turns
  /// Sequences are shorter, so that sums and differences of places stay below 2^31.
  static constexpr int64_t kLongest = int64_t{1} << 29;

  int heads;     ///< of K and V, over the batch
  int heads_kv;  ///< of one batch entry
  int group;
  int seq_q;
  int key_blocks;   ///< of a head
  int query_tiles;  ///< of a head
  int queries;      ///< of a tile
  int interleaved;
  MaskRule rule;  ///< of host memory, or, in a kernel, of the device's
  HopperGradientVisits visits;

  static HopperGradientTiles of(int64_t batch, int64_t heads_q, int64_t heads_kv, int64_t seq_q,
                                const MaskRule& rule, int queries) {
    HopperGradientTiles tiles{};
    tiles.heads = static_cast<int>(batch * heads_kv);
    tiles.heads_kv = static_cast<int>(heads_kv);
    tiles.group = static_cast<int>(heads_q / heads_kv);
    tiles.seq_q = static_cast<int>(seq_q);
    tiles.key_blocks = static_cast<int>((rule.seq_kv + kKeys - 1) / kKeys);
    tiles.query_tiles = (tiles.seq_q + queries - 1) / queries;
    tiles.queries = queries;
    tiles.rule = rule;
    const double tiles_of_block = tiles.mean_tiles();
    const double wanted = tiles_of_block > 0 ? kTilesBetween / tiles_of_block : 1;
    const int most = std::min(tiles.heads, queries == 64 ? 24 : 64);
    tiles.interleaved = static_cast<int>(std::clamp(wanted, 1.0, std::max(most, 1) * 1.0));
    return tiles;
  }
  int64_t blocks() const { return int64_t{heads} * key_blocks; }

  /// Tiles that see keys of a block; `entry` is the rule of a batch entry.
  ATTN_HOST_DEVICE TileRange tiles_of(const MaskRule& entry, int block) const {
    if (nothing()) return {0, 0};
    const int64_t j0 = int64_t{block} * kKeys;
    return seeing_tiles(entry, seq_q, j0, j0 + kKeys, queries);
  }
  /// Of a block, as far as 32 of a batch entry tell.
  double mean_tiles() const {
    const int step = std::max(key_blocks / 32, 1);
    double sum = 0;
    int count = 0;
    for (int b = 0; b < entries(); ++b) {
      const MaskRule entry = of_batch_entry(rule, b);
      for (int block = step / 2; block < key_blocks; block += step, ++count) {
        const TileRange range = tiles_of(entry, block);
        sum += static_cast<double>(range.last - range.first);
      }
    }
    return count > 0 ? sum / count : 0;
  }

  struct Place {
    int b, head_kv;
    int block;                  ///< keys [block kKeys, ..)
    int keys;                   ///< of the batch entry
    int first, last;            ///< tiles of queries [first, last)
    int count;                  ///< of those that are visited
    int full_first, full_last;  ///< those of which only a block mask may hide a pair
  };
  ATTN_HOST_DEVICE Place place_of(uint32_t ticket) const {
    const auto turn = static_cast<uint32_t>(interleaved) * static_cast<uint32_t>(key_blocks);
    const uint32_t first_head = ticket / turn * static_cast<uint32_t>(interleaved), rest = ticket % turn;
    const uint32_t left = static_cast<uint32_t>(heads) - first_head;
    const uint32_t taking =
        left < static_cast<uint32_t>(interleaved) ? left : static_cast<uint32_t>(interleaved);
    const auto head = static_cast<int>(first_head + rest % taking);
    Place place{head / heads_kv, head % heads_kv, static_cast<int>(rest / taking)};
    const MaskRule entry = of_batch_entry(rule, place.b);
    const int64_t j0 = int64_t{place.block} * kKeys;
    const TileRange range = tiles_of(entry, place.block);
    const TileRange full = full_seeing_tiles(entry, seq_q, j0, j0 + kKeys, queries);
    place.keys = static_cast<int>(entry.seq_kv);
    HopperGradientVisits::Span span{static_cast<int>(range.first), static_cast<int>(range.last),
                                    static_cast<int>(range.last - range.first)};
    if (visits && j0 < entry.seq_kv) span = visits.spans[place.block];
    place.first = span.first;
    place.last = span.last;
    place.count = span.count;
    place.full_first = static_cast<int>(full.first);
    place.full_last = static_cast<int>(full.last);
    return place;
  }
  /// The tile visited after `tile`; after the lowest one the highest, for the next head.
  ATTN_HOST_DEVICE int after(const Place& place, int tile) const {
    if (tile == place.first) return place.last - 1;
    return visits ? visits.of(place.block, tile).below : tile - 1;
  }
  /// Blocks of lower keys that see the tile too.
  ATTN_HOST_DEVICE int rank(const Place& place, int tile) const {
    if (visits) return visits.of(place.block, tile).rank;
    const int64_t lowest = rule.keys_begin(int64_t{tile} * queries);
    return lowest > 0 ? place.block - static_cast<int>(lowest / kKeys) : place.block;
  }
  /// Whether some pair of block and tile is hidden, or a key beyond the last.
  ATTN_HOST_DEVICE bool is_partial(const Place& place, int tile) const {
    if (tile < place.full_first || tile >= place.full_last) return true;
    return visits && visits.of(place.block, tile).cut;
  }

  /// Whether what nothing sees may stand between rows that are seen, or differ from entry to entry. Else
  /// tensor maps leave it out.
  ATTN_HOST_DEVICE bool has_unseen_rows() const { return rule.lengths || rule.blocks; }
  /// Whether some query sees key j of a batch entry, of those that the tensor maps hold.
  ATTN_HOST_DEVICE bool is_seen(const Place& place, int j) const {
    if (j >= place.keys) return false;
    if (!rule.blocks) return true;
    const int64_t begin = rule.queries_begin(j), end = rule.queries_end(j);
    const int64_t first = MaskRule::block_of(begin > 0 ? begin : 0, rule.block_q);
    const int64_t last = MaskRule::block_of((end < seq_q ? end : seq_q) - 1, rule.block_q);
    const uint8_t* blocks = rule.blocks + MaskRule::block_of(j, rule.block_kv);
    for (int64_t row = first; row <= last; ++row) {
      if (blocks[row * rule.block_columns]) return true;
    }
    return false;
  }

  // Rows outside which, for every batch entry, a query sees nothing or a key is seen by none: what stands
  // there, NaN included, is never read.
  TileRange seeing_queries() const {
    if (nothing()) return {0, 0};
    return {std::clamp(-rule.band_high, int64_t{0}, int64_t{seq_q}),
            std::clamp(longest() - rule.band_low, int64_t{0}, int64_t{seq_q})};
  }
  TileRange seen_keys() const {
    if (nothing()) return {0, 0};
    return {std::clamp(rule.band_low, int64_t{0}, longest()),
            std::clamp(seq_q + rule.band_high, int64_t{0}, longest())};
  }

 private:
  ATTN_HOST_DEVICE bool nothing() const { return rule.band_low > rule.band_high; }
  /// Batch entries that may differ: they are asked on every call.
  int entries() const { return rule.lengths ? heads / heads_kv : 1; }
  /// Keys of the longest batch entry.
  int64_t longest() const {
    int64_t keys = 0;
    for (int b = 0; b < entries(); ++b) keys = std::max(keys, rule.key_length(b));
    return keys;
  }
};

/// Tensor maps have boxes of 64 rows and 64 channels.
struct HopperGradientArgs {
  TensorMap q, d_o;    ///< of seeing queries only
  TensorMap k, v;      ///< of seen keys only
  TensorMap d_k, d_v;  ///< whole
  HopperGradientTiles tiles;
  int first_query, first_key;  ///< of q, d_o and k, v
  int heads_q;
  float scale;
  float softcap;        ///< 0: none
  const float* slopes;  // [heads_q], ALiBi; null: none
  QueryRows queries;
  HopperQuerySums sums;
  HopperRope rope;  ///< of the keys, where k holds rotated ones: dK is rotated back
};

}  // namespace attn
