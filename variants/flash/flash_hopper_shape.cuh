#pragma once
// The Hopper kernels' sizes, their shared memory, and the order of work. Nothing here needs a GPU.

#include "variants/common/divisor.h"
#include "variants/common/hopper.cuh"
#include "variants/common/tensor_box.h"
#include "variants/flash/flash_mma.cuh"
#include "variants/flash/flash_visits.cuh"

namespace attn {

/// What a rung has beyond TMA and wgmma. Each needs those before it.
struct HopperRung {
  bool specialised = false;  ///< a warpgroup of its own loads tiles
  bool overlap = false;      ///< Q K^T of a tile runs beside P V of the tile before
  bool pingpong = false;     ///< warpgroups take turns between products and exponentials
  bool persistent = false;   ///< as many blocks as multiprocessors; each takes the next row of tiles
};

/// What an instance can do: nothing more; a mask; a mask and a Toeplitz bias; that, a softcap and a negative
/// scale; a mask and Shaw's key terms; a mask and RoPE of the queries; a mask, and tiles of the rows of
/// several heads.
enum class HopperKind { plain, masked, biased, capped, shaw, rope, packed };

struct HopperTiling {
  int consumers;  ///< warpgroups that compute, 64 queries each. Three leave 160 registers to a thread
  int keys;       ///< of a tile

  constexpr int rows() const { return 64 * consumers; }
};
/// Padded value_dim of an instance, whose kWidth is the padded head_dim: 192 is for 192 and 128, all others
/// are for the same twice.
constexpr int hopper_value_width(int width) { return width == 192 ? 128 : width; }

/// What registers and shared memory hold.
constexpr HopperTiling hopper_tiling(int width, HopperKind kind) {
  if (width == 256) return {2, 80};
  return {width == 64 && (kind < HopperKind::capped || kind == HopperKind::rope) ? 3 : 2, 128};
}
/// What flash/cuda/hopper has, by measurements on an H200: turns pay where exponentials are as long as
/// products.
constexpr HopperRung hopper_best_rung(int width, HopperKind kind) {
  return {.specialised = true,
          .overlap = true,
          .pingpong = width == 64 && kind == HopperKind::plain,
          .persistent = true};
}

/// Whether there is one for 192 and 128, else problems of these widths take that for 256.
constexpr bool hopper_has_wide_keys(HopperKind kind) {
  return kind <= HopperKind::masked || kind == HopperKind::rope;
}

/// Also built, for fewer queries: one warpgroup less.
constexpr bool hopper_has_smaller(int width, HopperKind kind) {
  return width <= 128 && kind <= HopperKind::masked;
}
constexpr HopperTiling hopper_smaller(HopperTiling tiling) { return {tiling.consumers - 1, tiling.keys}; }

/// Heads of a group whose rows may share tiles: row r is then query r / pack of head r % pack. A power of two
/// that divides the group, and at most 16, so that the rows of a warp are whole queries.
constexpr int hopper_pack(int64_t group) { return static_cast<int>(std::min(group & -group, int64_t{16})); }

/// Places in shared memory, from a multiple of 1024 bytes on. Tiles are chunks of 64 channels (wgmma.cuh);
/// the queries of each warpgroup lie together, and its rows of O take their place. kBiased: a tile of keys
/// brings the biases of its distances, from row 0 and its last key on.
template <int kRows, int kKeys, int kWidth, bool kBiased>
struct HopperShared {
  static constexpr int kStages = 2;                          ///< of K and of V
  static constexpr int kQueryStages = kWidth > 128 ? 1 : 2;  ///< also of the indices of rows
  static constexpr uint32_t kQueryBytes = kRows * kWidth * 2;
  static constexpr uint32_t kKeyBytes = kKeys * kWidth * 2;
  static constexpr uint32_t kValueBytes = kKeys * hopper_value_width(kWidth) * 2;
  static constexpr uint32_t kKeysAt = kQueryStages * kQueryBytes;
  static constexpr uint32_t kValuesAt = kKeysAt + kStages * kKeyBytes;
  static constexpr uint32_t kBarriersAt = kValuesAt + kStages * kValueBytes;
  static constexpr int kBarriers = 5 * kQueryStages + 4 * kStages;
  static constexpr uint32_t kIndexAt = kBarriersAt + 8 * kBarriers;
  static constexpr uint32_t kUnreadAt = kIndexAt + kQueryStages * 4;
  static constexpr uint32_t kBiasBytes = kBiased ? (kRows + kKeys) * 4 : 0;
  static constexpr uint32_t kBiasAt = (kUnreadAt + kRows / 16 * 4 + 15) / 16 * 16;
  static constexpr uint32_t kBytes = kBiasAt + kStages * kBiasBytes;
  static_assert(kKeyBytes % 1024 == 0 && kValueBytes % 1024 == 0 && kQueryBytes % 1024 == 0,
                "the swizzle counts from multiples of 1024");

  uint32_t base;

  ATTN_HOST_DEVICE uint32_t queries(int stage) const {
    return base + static_cast<uint32_t>(stage) * kQueryBytes;
  }
  ATTN_HOST_DEVICE uint32_t keys(int stage) const {
    return base + kKeysAt + static_cast<uint32_t>(stage) * kKeyBytes;
  }
  ATTN_HOST_DEVICE uint32_t values(int stage) const {
    return base + kValuesAt + static_cast<uint32_t>(stage) * kValueBytes;
  }
  ATTN_HOST_DEVICE uint32_t bias(int stage) const {
    return base + kBiasAt + static_cast<uint32_t>(stage) * kBiasBytes;
  }
  ATTN_HOST_DEVICE uint32_t k_full(int stage) const { return barrier(stage); }
  ATTN_HOST_DEVICE uint32_t k_empty(int stage) const { return barrier(kStages + stage); }
  ATTN_HOST_DEVICE uint32_t v_full(int stage) const { return barrier(2 * kStages + stage); }
  ATTN_HOST_DEVICE uint32_t v_empty(int stage) const { return barrier(3 * kStages + stage); }
  ATTN_HOST_DEVICE uint32_t q_full(int stage) const { return barrier(4 * kStages + stage); }
  ATTN_HOST_DEVICE uint32_t q_empty(int stage) const { return barrier(4 * kStages + kQueryStages + stage); }
  ATTN_HOST_DEVICE uint32_t index_full(int stage) const {
    return barrier(4 * kStages + 2 * kQueryStages + stage);
  }
  ATTN_HOST_DEVICE uint32_t index_empty(int stage) const {
    return barrier(4 * kStages + 3 * kQueryStages + stage);
  }
  /// Where queries are rotated before q_full.
  ATTN_HOST_DEVICE uint32_t q_loaded(int stage) const {
    return barrier(4 * kStages + 4 * kQueryStages + stage);
  }
  ATTN_HOST_DEVICE uint32_t index(int stage) const {
    return base + kIndexAt + 4 * static_cast<uint32_t>(stage);
  }
  /// A word of each warp that computes, written for the order of instructions alone
  /// (HopperRows::weights_are_done).
  ATTN_HOST_DEVICE uint32_t unread(int warp) const {
    return base + kUnreadAt + 4 * static_cast<uint32_t>(warp);
  }

 private:
  ATTN_HOST_DEVICE uint32_t barrier(int number) const {
    return base + kBarriersAt + 8 * static_cast<uint32_t>(number);
  }
};

/// Of a tile of queries: the 64 of each warpgroup lie together, in chunks of 64 channels.
template <int kWidth>
ATTN_HOST_DEVICE constexpr uint32_t query_place(uint32_t queries, int row, int channel) {
  const int chunk = row / 64 * (kWidth / 64) + channel / 64;
  return queries + static_cast<uint32_t>(chunk * 64 * 128) + swizzled_128(row % 64, channel % 64);
}

/// Elements that rows of biases have beyond those of the problem, so that those of any tile are there,
/// aligned to 16 bytes.
struct HopperBiasEnds {
  int64_t front, back;

  static HopperBiasEnds of(const Problem& p, HopperTiling tiling) {
    return {tiling.keys + (4 - p.seq_kv % 4) % 4, tiling.rows() + 1};
  }
};

/// In which order rows of tiles are worked on. Heads come in sections whose keys and values stay in the
/// second-level cache together; within a section the longest rows come first, over all of its heads.
class HopperSchedule {
 public:
  struct Row {
    int b, h, head_kv;
    uint32_t number;  ///< of the head; 0 has the first queries
    int split = 0;    ///< of its tiles
  };

  HopperSchedule() = default;
  /// `section`: heads of a section, at least 1. `splits`: of the tiles of each row.
  HopperSchedule(int64_t rows_of_head, int64_t heads_q, int64_t heads_kv, int64_t batch, int64_t section,
                 int64_t splits = 1)
      : count_(static_cast<uint32_t>(rows_of_head * batch * heads_q * splits)),
        rows_(static_cast<uint32_t>(rows_of_head)),
        heads_(static_cast<uint32_t>(batch * heads_q)),
        section_(static_cast<uint32_t>(section)),
        by_section_(section_ * rows_),
        by_members_(section_),
        by_last_members_(heads_ % section_),
        by_heads_q_(static_cast<uint32_t>(heads_q)),
        by_group_(static_cast<uint32_t>(heads_q / heads_kv)),
        by_splits_(static_cast<uint32_t>(splits)) {}

  /// `pack`: heads that share tiles of `rows` rows, and are one head here.
  static HopperSchedule of(const Problem& p, int rows, int pack = 1, int splits = 1) {
    const int64_t rows_of_head = (p.seq_q * pack + rows - 1) / rows, heads_q = p.heads_q / pack;
    int64_t section = 1;
    if (p.mask.has_band()) {  // else all rows are equally long
      const int64_t group = p.group() / pack;
      const int64_t bytes = std::max(p.seq_kv * (p.head_dim + p.value_dim) * 2 / group, int64_t{1});
      section = std::clamp(kCacheBytes / bytes, int64_t{1}, p.batch * heads_q);
    }
    return {rows_of_head, heads_q, p.heads_kv, p.batch, section, splits};
  }

  ATTN_HOST_DEVICE uint32_t count() const { return count_; }
  ATTN_HOST_DEVICE uint32_t section() const { return section_; }

  /// kSplit: there may be several splits, which come one after the other.
  template <bool kSplit = false>
  ATTN_HOST_DEVICE Row at(uint32_t index) const {
    if constexpr (kSplit) {
      const uint32_t whole = by_splits_.quotient(index);
      Row row = at(whole);
      row.split = static_cast<int>(by_splits_.remainder(index, whole));
      return row;
    }
    const uint32_t before = by_section_.quotient(index), first = before * section_;
    const uint32_t within = by_section_.remainder(index, before);
    const Divisor& by_members = heads_ - first < section_ ? by_last_members_ : by_members_;
    const uint32_t row = by_members.quotient(within);
    const uint32_t head = first + by_members.remainder(within, row);
    const uint32_t b = by_heads_q_.quotient(head), h = by_heads_q_.remainder(head, b);
    return {static_cast<int>(b), static_cast<int>(h), static_cast<int>(by_group_.quotient(h)),
            rows_ - 1 - row};
  }

 private:
  static constexpr int64_t kCacheBytes = 32 << 20;  ///< of 50 MB

  uint32_t count_ = 0, rows_ = 0, heads_ = 0, section_ = 1;
  Divisor by_section_, by_members_, by_last_members_, by_heads_q_, by_group_, by_splits_;
};

/// The tiles that a block of queries visits, and which of them need mask arithmetic. Two comparisons tell
/// what a band cuts; what a block mask leaves stands in a table. kPacked: see FlashTiles; without block
/// masks.
template <int kRows, int kKeys, bool kMasked, bool kPacked = false>
struct HopperWalk {
  static constexpr bool kListed = kMasked && !kPacked;  ///< there may be such a table
  using Tiles = FlashTiles<kRows, kKeys, kMasked, kPacked>;
  using Place = typename Tiles::Place;

  Place place;
  int full_from, full_to;  ///< no band cuts a tile that lies in [full_from, full_to)
  int fetched;             ///< under a block mask

  template <class Shape>
  ATTN_HOST_DEVICE static HopperWalk of(const Shape& shape, const HopperSchedule::Row& row) {
    HopperWalk walk;
    walk.place.b = row.b;
    walk.place.h = row.h;
    if constexpr (kPacked) walk.place.h <<= shape.pack_shift;
    walk.place.head_kv = row.head_kv;
    walk.place.i0 = row.number * static_cast<uint32_t>(Tiles::query_of(shape, kRows));
    Tiles::find_keys(shape, walk.place);
    if constexpr (kPacked) walk.keep_split(shape.splits, row.split);
    walk.full_from = 0;
    int64_t to = walk.place.keys;
    if constexpr (kMasked) {
      const int64_t from = shape.rule.keys_begin(Tiles::end_of(shape, walk.place) - 1);
      walk.full_from = static_cast<int>(from < 0 ? 0 : from < INT32_MAX ? from : INT32_MAX);
      const int64_t band_end = shape.rule.keys_end(walk.place.i0);
      if (band_end < to) to = band_end;
    }
    walk.full_to = static_cast<int>(to < 0 ? 0 : to);
    walk.fetch_from(shape, walk.place.first);
    return walk;
  }
  /// The first visit (flash_visits.cuh); then fetch() and next() for each behind it, until more() says no.
  ATTN_HOST_DEVICE int first(const FlashVisitShape& shape) const {
    return kListed && shape.visits.words ? fetched : place.first;
  }
  /// Asks for the visit behind this one, any time before next(): the answer of memory takes a while.
  ATTN_HOST_DEVICE void fetch(const FlashVisitShape& shape, int visit) { fetch_from(shape, tile(visit) + 1); }
  ATTN_HOST_DEVICE int next(const FlashVisitShape& shape, int visit) const {
    return kListed && shape.visits.words ? fetched : visit + 1;
  }
  ATTN_HOST_DEVICE bool more(int visit) const { return tile(visit) < place.last; }
  ATTN_HOST_DEVICE static int tile(int visit) { return kListed ? visit & ~kCutTile : visit; }
  ATTN_HOST_DEVICE static bool blocks_cut(int visit) { return kListed && (visit & kCutTile) != 0; }
  /// Whether the band or the end of the keys hides some pair of the tile.
  ATTN_HOST_DEVICE bool band_cuts(int tile) const {
    const int j0 = tile * kKeys;
    return j0 < full_from || j0 + kKeys > full_to;
  }

 private:
  ATTN_HOST_DEVICE void keep_split(int splits, int split) {
    const int first = place.first, tiles = place.last - first;
    place.split = split;
    place.first = first + tiles * split / splits;
    place.last = first + tiles * (split + 1) / splits;
  }
  ATTN_HOST_DEVICE void fetch_from(const FlashVisitShape& shape, int from) {
    if constexpr (kListed) {
      if (shape.visits.words) fetched = shape.visits.from(place.i0 / kRows, from);
    }
  }
};

}  // namespace attn
