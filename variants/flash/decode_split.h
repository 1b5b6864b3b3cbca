#pragma once
// Which keys the queries of a decode step visit, and how they are dealt to thread blocks. A batch entry's
// queries share their keys: all heads see the same ones, so every split serves each key/value head.

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <vector>

#include "harness/problem/problem.h"

namespace attn {

/// Keys [begin, end) that some query of a batch entry may see; `rule` is of the entry. Tiles are counted from
/// `begin`, so that nothing in front of a window is read.
ATTN_HOST_DEVICE inline KeyRange decode_range(const MaskRule& rule, int64_t seq_q) {
  KeyRange range = rule.rows_range(0, 0, seq_q);
  if (range.end > rule.seq_kv) range.end = rule.seq_kv;
  if (range.end < range.begin) range.end = range.begin;
  return range;
}

/// Keys [j0, j1) of the range against all queries; what lies behind its end is not visible.
ATTN_HOST_DEVICE inline TileKind decode_kind(const MaskRule& rule, int64_t seq_q, const KeyRange& range,
                                             int64_t j0, int64_t j1) {
  if (j0 >= range.end) return TileKind::empty;
  if (j1 <= range.end) return rule.tile(0, 0, seq_q, j0, j1);
  return rule.tile(0, 0, seq_q, j0, range.end) == TileKind::empty ? TileKind::empty : TileKind::partial;
}

/// The first tile of `keys` keys from `tile` on that some query sees, or `last`.
ATTN_HOST_DEVICE inline int64_t next_decode_tile(const MaskRule& rule, int64_t seq_q, const KeyRange& range,
                                                 int64_t keys, int64_t tile, int64_t last) {
  if (!rule.blocks) return tile < last ? tile : last;
  for (; tile < last; ++tile) {
    const int64_t j0 = range.begin + tile * keys;
    if (decode_kind(rule, seq_q, range, j0, j0 + keys) != TileKind::empty) break;
  }
  return tile;
}

/// What the thread blocks of one split work on, a block for each key/value head: those tiles in [first, last)
/// that are visited. There is no split without visited tiles, unless the batch entry has none.
struct DecodeSplit {
  int32_t b;
  int32_t first;
  int32_t last;
};

/// The rule of batch entry b, over host memory.
inline MaskRule decode_rule(const Problem& p, int64_t b) {
  MaskRule rule = p.mask_rule();
  rule.seq_kv = rule.key_length(b);
  rule.lengths = nullptr;
  return rule;
}

/// Calls visit(tile) for the visited tiles of a batch entry, in order.
template <class Visit>
void each_decode_tile(const Problem& p, int64_t b, int64_t keys, Visit visit) {
  const MaskRule rule = decode_rule(p, b);
  const KeyRange range = decode_range(rule, p.seq_q);
  const int64_t last = (range.end - range.begin + keys - 1) / keys;
  for (int64_t tile = next_decode_tile(rule, p.seq_q, range, keys, 0, last); tile < last;
       tile = next_decode_tile(rule, p.seq_q, range, keys, tile + 1, last)) {
    visit(tile);
  }
}
inline int64_t count_decode_tiles(const Problem& p, int64_t b, int64_t keys) {
  int64_t count = 0;
  if (p.mask.has_blocks()) {
    each_decode_tile(p, b, keys, [&](int64_t) { ++count; });
    return count;
  }
  const KeyRange range = decode_range(decode_rule(p, b), p.seq_q);
  return (range.end - range.begin + keys - 1) / keys;
}

/// Keys in the visited tiles, over the batch.
inline double count_decode_keys(const Problem& p, int64_t keys) {
  double count = 0;
  for (int64_t b = 0; b < p.batch; ++b) {
    const KeyRange range = decode_range(decode_rule(p, b), p.seq_q);
    if (!p.mask.has_blocks()) {
      count += static_cast<double>(range.end - range.begin);
      continue;
    }
    each_decode_tile(p, b, keys, [&](int64_t tile) {
      count += static_cast<double>(std::min(keys, range.end - range.begin - tile * keys));
    });
  }
  return count;
}

/// Batch entries that have as many tiles.
struct DecodeEntries {
  int64_t tiles;
  int64_t count;

  int64_t splits_each(int64_t longest) const { return std::max<int64_t>((tiles + longest - 1) / longest, 1); }
};

/// How the keys are split. Splits are as long as they can be while all multiprocessors work: of the lengths
/// that just fill one, two, ... rounds of `resident` thread blocks, the one that takes least time when a
/// round takes as long as its longest split and a fixed price. The partial results stay small: a split has
/// at least a tile, and there are at most kMostRounds * resident blocks beyond the one that every batch entry
/// and key/value head needs anyhow.
class DecodeSplits {
 public:
  static constexpr int64_t kMostRounds = 8;
  static constexpr int64_t kPriceInTiles = 2;  ///< of filling the pipeline and of merging

  static DecodeSplits of(const Problem& p, int64_t keys_of_tile, int64_t resident) {
    DecodeSplits splits;
    splits.keys_ = keys_of_tile;
    const int64_t lengths =
        std::max<int64_t>(p.mask_rule().lengths_count, 1);  // entry b has length b % lengths
    for (int64_t b = 0; b < std::min(lengths, p.batch); ++b) {
      splits.entries_.push_back(
          {count_decode_tiles(p, b, keys_of_tile), (p.batch - b + lengths - 1) / lengths});
    }
    for (const DecodeEntries& entries : splits.entries_) {
      splits.longest_ = std::max(splits.longest_, entries.tiles);
    }
    splits.choose(p.heads_kv, resident);
    return splits;
  }

  int64_t count() const { return count_of(longest_); }
  /// Whether results have to be merged.
  bool several() const {
    return std::any_of(entries_.begin(), entries_.end(),
                       [this](const DecodeEntries& entries) { return entries.tiles > longest_; });
  }
  int64_t tiles() const {
    int64_t total = 0;
    for (const DecodeEntries& entries : entries_) total += entries.tiles * entries.count;
    return total;
  }

  /// All splits, those of a batch entry side by side; the k-th of n has the visited tiles [k t / n, (k + 1) t
  /// / n) of t.
  std::vector<DecodeSplit> list(const Problem& p) const {
    std::vector<DecodeSplit> splits;
    for (int64_t b = 0; b < p.batch; ++b) {
      const DecodeEntries& entry = entries_[static_cast<size_t>(b) % entries_.size()];
      const int64_t n = entry.splits_each(longest_), before = static_cast<int64_t>(splits.size());
      int64_t number = 0, k = 0;
      if (entry.tiles == 0) splits.push_back({static_cast<int32_t>(b), 0, 0});
      each_decode_tile(p, b, keys_, [&](int64_t tile) {
        const auto at = static_cast<int32_t>(tile);
        if (number++ == k * entry.tiles / n) {
          splits.push_back({static_cast<int32_t>(b), at, at});
          ++k;
        }
        splits.back().last = at + 1;
      });
      if (static_cast<int64_t>(splits.size()) - before != n)
        throw std::logic_error("decode: splits miscounted");
    }
    return splits;
  }

 private:
  int64_t count_of(int64_t longest) const {
    int64_t count = 0;
    for (const DecodeEntries& entries : entries_) count += entries.count * entries.splits_each(longest);
    return count;
  }
  /// The shortest length of which `blocks` thread blocks are enough; they are for the length `most`.
  int64_t shortest_within(int64_t most, int64_t heads, int64_t blocks) const {
    int64_t low = 1, high = most;
    while (low < high) {
      const int64_t middle = (low + high) / 2;
      if (count_of(middle) * heads <= blocks) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }
  void choose(int64_t heads, int64_t resident) {
    const int64_t most = longest_, needed = (count() * heads + resident - 1) / resident;
    int64_t least_time = INT64_MAX;
    for (int64_t rounds = needed; rounds < needed + kMostRounds; ++rounds) {
      const int64_t length = shortest_within(most, heads, rounds * resident);
      const int64_t time = rounds * (length + kPriceInTiles);
      if (time >= least_time) continue;
      least_time = time;
      longest_ = length;
    }
  }

  std::vector<DecodeEntries> entries_;  ///< batch entry b is one of [b % size]
  int64_t keys_ = 1;
  int64_t longest_ = 1;  ///< tiles of a split
};

}  // namespace attn
