#pragma once
// What a thread block of flash/cuda/hopper's backward is given: operands, sizes, and which keys and queries
// it works on. All of it runs on the host too.

#include "variants/common/warp.cuh"
#include "variants/flash/flash_backward_rows.cuh"
#include "variants/flash/flash_gradient_tiles.cuh"

namespace attn {

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
    for (int b = 0; b < heads / heads_kv; ++b) {
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
    int full_first, full_last;  ///< those that hide no pair
    ATTN_HOST_DEVICE int visits() const { return last - first; }
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
    place.first = static_cast<int>(range.first);
    place.last = static_cast<int>(range.last);
    place.full_first = static_cast<int>(full.first);
    place.full_last = static_cast<int>(full.last);
    return place;
  }
  /// The tile visited after `tile`; after the lowest one the highest, for the next head.
  ATTN_HOST_DEVICE int after(const Place& place, int tile) const {
    return tile > place.first ? tile - 1 : place.last - 1;
  }
  /// Blocks of lower keys that see the tile too.
  ATTN_HOST_DEVICE int rank(const Place& place, int tile) const {
    const int64_t lowest = rule.keys_begin(int64_t{tile} * queries);
    return lowest > 0 ? place.block - static_cast<int>(lowest / kKeys) : place.block;
  }
  /// Whether some pair of block and tile is hidden, or a key beyond the last.
  ATTN_HOST_DEVICE bool is_partial(const Place& place, int tile) const {
    return tile < place.full_first || tile >= place.full_last;
  }

  /// Whether what nothing sees may stand between rows that are seen, or differ from entry to entry. Else
  /// tensor maps leave it out.
  ATTN_HOST_DEVICE bool has_unseen_rows() const { return rule.lengths != nullptr; }

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
  /// Keys of the longest batch entry.
  int64_t longest() const {
    int64_t keys = 0;
    for (int b = 0; b < heads / heads_kv; ++b) keys = std::max(keys, rule.key_length(b));
    return keys;
  }
};

/// Where dQ is added up: of each query head and tile two halves of [64][64] float32, each as the
/// accumulators of a warpgroup stand in its threads: [8][128 threads][4]. The halves are the queries 0 .. 63
/// and 64 .. 127 of a tile of 128, or the channels 0 .. 63 and 64 .. 127.
struct HopperQuerySums {
  static constexpr int kHalf = 64 * 64;

  float* sums;
  uint32_t* counters;  ///< [batch, heads_q, query_tiles], blocks that have added; behind it the ticket
  int64_t tiles;       ///< of all heads

  static HopperQuerySums take(const Problem& p, int queries, Workspace& workspace) {
    HopperQuerySums sums{};
    sums.tiles = p.batch * p.heads_q * ((p.seq_q + queries - 1) / queries);
    sums.sums = workspace.take<float>("sums of dQ", sums.tiles * 2 * kHalf);
    sums.counters = workspace.take<uint32_t>("order of the sums of dQ", sums.tiles + 1);
    return sums;
  }
  ATTN_DEVICE uint32_t* ticket() const { return counters + tiles; }
};

struct ClearCounters {
  uint32_t* counters;
  ATTN_DEVICE void operator()(int64_t k) const { counters[k] = 0; }
};

/// dQ from its sums: eight channels of two queries, 8 apart, for each k.
template <class T>
struct StoreQueryGradient {
  HopperQuerySums from;
  GpuTensor<T> d_q;
  float scale;
  int heads_q, query_tiles, seq_q, head_dim;
  bool wide;  ///< halves are of channels, not of queries

  int64_t count() const { return from.tiles * (2 * HopperQuerySums::kHalf / 16); }

  ATTN_DEVICE void operator()(int64_t k) const {
    const int group = static_cast<int>(k % 8), row = static_cast<int>(k / 8 % 8),
              warp = static_cast<int>(k / 64 % 4), half = static_cast<int>(k / 256 % 2);
    const int64_t tile = k / 512;
    const auto head = static_cast<int>(tile / query_tiles);
    const int channel = group * 8 + (wide ? 64 * half : 0);
    if (channel >= head_dim) return;
    const bool empty = from.counters[tile] == 0;  // no key is visible: nothing was written
    const Float4* sums =
        reinterpret_cast<const Float4*>(from.sums + (2 * tile + half) * HopperQuerySums::kHalf) +
        group * 128 + warp * 32 + row * 4;
    Float4 of[4] = {};
    if (!empty) {
      ATTN_UNROLL
      for (int q = 0; q < 4; ++q) of[q] = sums[q];
    }
    const auto first =
        static_cast<int>(tile % query_tiles) * (wide ? 64 : 128) + (wide ? 0 : 64 * half) + warp * 16 + row;
    store(head, first, channel, of[0].x, of[0].y, of[1].x, of[1].y, of[2].x, of[2].y, of[3].x, of[3].y);
    store(head, first + 8, channel, of[0].z, of[0].w, of[1].z, of[1].w, of[2].z, of[2].w, of[3].z, of[3].w);
  }

 private:
  template <class... Values>
  ATTN_DEVICE void store(int head, int i, int channel, Values... values) const {
    if (i >= seq_q) return;
    const float of[] = {values...};
    struct alignas(16) Packed {
      uint32_t pair[4];
    } packed;
    ATTN_UNROLL
    for (int n = 0; n < 4; ++n) packed.pair[n] = pack<T>(of[2 * n] * scale, of[2 * n + 1] * scale);
    *reinterpret_cast<Packed*>(d_q.row(head / heads_q, i, head % heads_q) + channel) = packed;
  }
};

}  // namespace attn
