// What both passes of the tiled kernels do with a block of queries and a tile of keys, one copy per
// instruction set.

#if defined(ATTN_TILED_BLOCK_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTN_TILED_BLOCK_INL_H_
#undef ATTN_TILED_BLOCK_INL_H_
#else
#define ATTN_TILED_BLOCK_INL_H_
#endif

#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>

#include "variants/common/tiled_memory.h"
#include "variants/common/tiled_rows-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

inline constexpr float kLog2E = std::numbers::log2e_v<float>;
inline constexpr float kLn2 = std::numbers::ln2_v<float>;
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The reference maximum moves only when a tile exceeds it by 2^32: sums stay exact in range, and rescaling
/// is rare.
inline constexpr float kLazyMargin = 32.0f;

/// Queries [first, first + count) of one head.
struct QueryBlock {
  int64_t b, h, g;
  int64_t index;  ///< of the block
  int64_t first;
  int64_t count;

  int64_t strips(int64_t strip) const { return (count + strip - 1) / strip; }
};

/// Keys [j0, j1) and their values as contiguous rows.
struct KeyTile {
  int64_t j0, j1;
  bool partial;  ///< some query of the block may not see some key
  bool finite;   ///< keys and values, as far as a partial tile must know
  const float *keys, *values;
  size_t rows() const { return static_cast<size_t>(j1 - j0); }
};

/// Everything that does not change during a call.
struct TiledCall {
  const Problem& p;
  const Tiling& tiling;
  const TileLists& lists;
  const TiledScratch& scratch;
  ConstTensor q, k, v;
  Tables tables;
  MaskRule rule = p.mask_rule();
  int64_t strip = static_cast<int64_t>(strip_width());

  QueryBlock block(int64_t b, int64_t h, int64_t index) const {
    const int64_t first = index * tiling.query_block;
    return {b, h, h / p.group(), index, first, std::min(tiling.query_block, p.seq_q - first)};
  }
  /// Scores leave the product in powers of two, or, under a softcap, as S / c.
  float query_scale() const {
    const double tau = p.softmax_scale();
    return static_cast<float>(p.softcap != 0 ? tau / p.softcap : tau * std::numbers::log2e);
  }
  int64_t skewed_size() const { return (2 * p.position.clip + strip) * strip; }
};

/// out[width] = the row (b, i, h) as float32, rotated where the problem rotates.
HWY_INLINE void read_rotated(const TiledCall& call, const ConstTensor& tensor, int64_t b, int64_t i,
                             int64_t h, int64_t position, float* out) {
  load_row(call.p.dtype, row_at(tensor, call.p.dtype, b, i, h), call.p.head_dim, out);
  if (!call.scratch.rope.empty()) rotate_row(call.scratch.rope, position, 1, out);
}

/// Queries of the block, transposed, rotated and scaled; lanes past the end are zero.
inline void load_queries(const TiledCall& call, const QueryBlock& block, const BlockMemory& memory) {
  const Problem& p = call.p;
  const auto width = static_cast<size_t>(p.head_dim), strip = static_cast<size_t>(call.strip);
  const bool as_they_are = p.dtype == Dtype::f32 && call.scratch.rope.empty();
  for (int64_t s = 0; s < block.strips(call.strip); ++s) {
    const int64_t first = block.first + s * call.strip;
    const float* rows = memory.rows;
    size_t stride = width;
    if (as_they_are && first + call.strip <= block.first + block.count) {
      rows = call.q.row<float>(block.b, first, block.h);
      stride = static_cast<size_t>(call.q.seq_stride);
    } else {
      for (int64_t lane = 0; lane < call.strip; ++lane) {
        float* row = memory.rows + lane * p.head_dim;
        if (first + lane >= block.first + block.count) {
          std::fill_n(row, p.head_dim, 0.0f);
        } else {
          read_rotated(call, call.q, block.b, first + lane, block.h, first + lane + p.offset(), row);
        }
      }
    }
    transpose(rows, stride, strip, width, call.query_scale(), memory.q + s * call.strip * p.head_dim, strip);
  }
}

/// Key tiles of the block: the given list, or found in `found`.
inline const int32_t* tiles_of(const TiledCall& call, const QueryBlock& block, int32_t* found,
                               int64_t& count) {
  if (call.lists.begin) {
    const int64_t row = block.b * call.tiling.query_blocks(call.p) + block.index;
    count = call.lists.begin[row + 1] - call.lists.begin[row];
    return call.lists.tiles + call.lists.begin[row];
  }
  count = 0;
  for (int64_t tile = 0; tile < call.tiling.key_tiles(call.p); ++tile) {
    const int64_t j0 = tile * call.tiling.key_tile, j1 = std::min(j0 + call.tiling.key_tile, call.p.seq_kv);
    const TileKind kind = call.rule.tile(block.b, block.first, block.first + block.count, j0, j1);
    if (kind != TileKind::empty) found[count++] = static_cast<int32_t>(tile);
  }
  return found;
}

HWY_INLINE bool all_finite(const float* values, int64_t count) {
  const Tag f;
  const auto n = static_cast<int64_t>(hn::Lanes(f));
  int64_t e = 0;
  for (; e + n <= count; e += n) {
    if (!hn::AllTrue(f, hn::IsFinite(hn::LoadU(f, values + e)))) return false;
  }
  for (; e < count; ++e) {
    if (!std::isfinite(values[e])) return false;
  }
  return true;
}

/// Keys and values of a tile, to be read ahead during the products of the tile before with `strips` strips.
inline Ahead read_ahead(const TiledCall& call, const QueryBlock& block, int64_t strips, int64_t tile) {
  const Problem& p = call.p;
  const auto bytes = static_cast<int64_t>(bytes_of(p.dtype));
  const int64_t j0 = tile * call.tiling.key_tile, rows = std::min(call.tiling.key_tile, p.seq_kv - j0);
  const int64_t groups = (call.tiling.key_tile + p.value_dim) / static_cast<int64_t>(kRowGroup);
  const auto rows_of = [&](const ConstTensor& tensor, int64_t width) {
    const void* first = row_at(tensor, p.dtype, block.b, j0, block.g);
    return Ahead::Rows{static_cast<const char*>(first), tensor.seq_stride * bytes, width * bytes, rows};
  };
  return {rows_of(call.k, p.head_dim), rows_of(call.v, p.value_dim), std::max(strips * groups, int64_t{1})};
}

/// Copies keys and values of the tile into contiguous float32 rows, keys rotated. Rows that no query of this
/// batch entry may see become zero. `partial` asks whether all is finite: a pair that is masked must not meet
/// a NaN.
inline KeyTile load_tile(const TiledCall& call, const QueryBlock& block, int64_t tile, bool partial,
                         const BlockMemory& memory) {
  const Problem& p = call.p;
  KeyTile keys{tile * call.tiling.key_tile, 0, partial, true, memory.keys, memory.values};
  keys.j1 = std::min(keys.j0 + call.tiling.key_tile, p.seq_kv);
  const int64_t length = call.rule.key_length(block.b);
  for (int64_t j = keys.j0; j < keys.j1; ++j) {
    float* key = memory.keys + (j - keys.j0) * p.head_dim;
    float* value = memory.values + (j - keys.j0) * p.value_dim;
    if (j >= length) {
      std::fill_n(key, p.head_dim, 0.0f);
      std::fill_n(value, p.value_dim, 0.0f);
      continue;
    }
    read_rotated(call, call.k, block.b, j, block.g, j, key);
    load_row(p.dtype, row_at(call.v, p.dtype, block.b, j, block.g), p.value_dim, value);
  }
  if (partial) {
    const int64_t rows = keys.j1 - keys.j0;
    keys.finite = all_finite(memory.keys, rows * p.head_dim) && all_finite(memory.values, rows * p.value_dim);
  }
  return keys;
}

/// A Shaw term of one strip: table[row][lane] = (table row).(query of the lane), spread so that the term of
/// key j is one row: skewed[r][lane] = table[clamp(r - lane)][lane], and key j reads row skewed_row(j).
inline void skew(const TiledCall& call, const float* table, float* skewed) {
  const int64_t strip = call.strip, last = 2 * call.p.position.clip;
  for (int64_t r = 0; r < last + strip; ++r) {
    for (int64_t lane = 0; lane < strip; ++lane) {
      skewed[r * strip + lane] = table[std::clamp(r - lane, int64_t{0}, last) * strip + lane];
    }
  }
}

/// The reverse for sums by distance: table[clamp(r - lane)][lane] += skewed[r][lane], from zero.
inline void unskew(const TiledCall& call, const float* skewed, float* table) {
  const int64_t strip = call.strip, last = 2 * call.p.position.clip;
  std::fill_n(table, (last + 1) * strip, 0.0f);
  for (int64_t r = 0; r < last + strip; ++r) {
    for (int64_t lane = 0; lane < strip; ++lane) {
      table[std::clamp(r - lane, int64_t{0}, last) * strip + lane] += skewed[r * strip + lane];
    }
  }
}

/// Offset of key j's row in the skewed terms of the strip that starts at query i0.
HWY_INLINE int64_t skewed_row(const TiledCall& call, int64_t i0, int64_t j) {
  const int64_t clip = call.p.position.clip;
  return std::clamp(j - (i0 + call.p.offset()) + clip, int64_t{0}, 2 * clip + call.strip - 1) * call.strip;
}

/// Starts the product of keys j0, j0 + 1, ... and the strip at query i0 with its skewed terms.
struct FromSkewed {
  const TiledCall& call;
  const float* skewed;
  int64_t i0, j0;
  HWY_INLINE Vec operator()(size_t r, size_t v) const {
    const Tag f;
    return hn::Load(f, skewed + skewed_row(call, i0, j0 + static_cast<int64_t>(r)) + v * hn::Lanes(f));
  }
};

/// The same with a bias by distance; `row` points to that of the strip's first query and key j0.
struct FromBias {
  const float* row;
  HWY_INLINE Vec operator()(size_t r, size_t v) const {
    const Tag f;
    return hn::LoadU(f, row - r + v * hn::Lanes(f));
  }
};

/// The skewed terms (rows of a Shaw table times the columns of every strip) of the block.
inline void make_skewed(const TiledCall& call, const QueryBlock& block, const float* columns,
                        const float* rows, int64_t width, const BlockMemory& memory, float* skewed) {
  const auto w = static_cast<size_t>(width);
  Ahead nothing;
  for (int64_t s = 0; s < block.strips(call.strip); ++s) {
    product<false>(columns + s * call.strip * width, rows, w, w,
                   static_cast<size_t>(call.p.position.shaw_rows()), memory.table, nullptr, nothing);
    skew(call, memory.table, skewed + s * call.skewed_size());
  }
}

/// Mask of the rows of one partial tile against one strip.
class StripMask {
 public:
  StripMask(const TiledCall& call, int64_t b, int64_t i0, float* visible)
      : rule_(call.rule),
        strip_(call.strip),
        seq_q_(call.p.seq_q),
        i0_(i0),
        length_(call.rule.key_length(b)),
        visible_(visible) {}

  /// Call before the vectors of key j.
  HWY_INLINE void start(int64_t j) {
    const auto bound = [&](int64_t value) {
      return static_cast<float>(std::clamp(value, int64_t{-1}, strip_));
    };
    first_ = j < length_ ? bound(rule_.queries_begin(j) - i0_) : static_cast<float>(strip_);
    last_ = bound(rule_.queries_end(j) - 1 - i0_);
    if (rule_.blocks && j / rule_.block_kv != block_column_) load_blocks(j / rule_.block_kv);
  }
  HWY_INLINE bool hides_any() const {
    return rule_.blocks || first_ > 0 || last_ < static_cast<float>(strip_ - 1);
  }
  HWY_INLINE hn::Mask<Tag> allowed(size_t lane) const {
    const Tag f;
    const Vec index = hn::Iota(f, static_cast<float>(lane));
    const auto band = hn::And(hn::Ge(index, hn::Set(f, first_)), hn::Le(index, hn::Set(f, last_)));
    if (!rule_.blocks) return band;
    return hn::And(band, hn::Gt(hn::Load(f, visible_ + lane), hn::Zero(f)));
  }

 private:
  void load_blocks(int64_t column) {
    block_column_ = column;
    for (int64_t lane = 0; lane < strip_; ++lane) {
      const int64_t row = std::min(i0_ + lane, seq_q_ - 1) / rule_.block_q;
      visible_[lane] = rule_.blocks[row * rule_.block_columns + column] ? 1.0f : 0.0f;
    }
  }

  const MaskRule& rule_;
  int64_t strip_, seq_q_, i0_, length_;
  int64_t block_column_ = -1;
  float* visible_;
  float first_ = 0, last_ = 0;
};

/// What is left to do with scores that are no logits yet: softcap, the bias behind it, mask.
template <bool kMaximum>
HWY_NOINLINE void finish_logits(const TiledCall& call, const QueryBlock& block, int64_t i0,
                                const KeyTile& keys, bool partial, const BlockMemory& memory, float* maximum,
                                float* cap_slope) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  const bool capped = call.p.softcap != 0;
  const float* bias = capped && !call.scratch.bias.empty() ? call.scratch.bias.row(block.h) : nullptr;
  const Vec cap = hn::Set(f, static_cast<float>(call.p.softcap * std::numbers::log2e));
  StripMask mask(call, block.b, i0, memory.visible);
  Vec largest[kStripVectors];
  for (size_t v = 0; v < kStripVectors; ++v) largest[v] = hn::Set(f, -kInfinity);
  for (int64_t j = keys.j0; j < keys.j1; ++j) {
    float* row = memory.scores + (j - keys.j0) * call.strip;
    if (partial) mask.start(j);
    const bool masked = partial && mask.hides_any();
    for (size_t v = 0; v < kStripVectors; ++v) {
      const size_t lane = v * n;
      Vec x = hn::Load(f, row + lane);
      if (capped) {
        x = hn::Tanh(f, x);
        if (cap_slope)
          hn::Store(hn::NegMulAdd(x, x, hn::Set(f, 1.0f)), f, cap_slope + (row - memory.scores) + lane);
        x = hn::Mul(x, cap);
        if (bias) x = hn::Add(x, hn::LoadU(f, bias + (i0 - j) + static_cast<int64_t>(lane)));
      }
      if (masked) x = hn::IfThenElse(mask.allowed(lane), x, hn::Set(f, -kInfinity));
      if (capped || masked) hn::Store(x, f, row + lane);
      if constexpr (kMaximum) largest[v] = hn::Max(largest[v], x);
    }
  }
  if constexpr (kMaximum) {
    for (size_t v = 0; v < kStripVectors; ++v) hn::Store(largest[v], f, maximum + v * n);
  }
}

/// Scores of one strip against one tile as logits in powers of two, -inf where masked; their `maximum`
/// [strip] if asked for; 1 - tanh^2 to `cap_slope` if given.
template <bool kMaximum>
inline void make_logits(const TiledCall& call, const QueryBlock& block, int64_t s, const KeyTile& keys,
                        bool partial, const BlockMemory& memory, float* maximum, float* cap_slope,
                        Ahead& ahead) {
  const Problem& p = call.p;
  const int64_t i0 = block.first + s * call.strip;
  const bool finished = !partial && p.softcap == 0;
  if constexpr (kMaximum) std::fill_n(maximum, call.strip, -kInfinity);
  const auto multiply = [&](const auto& start) {
    const auto width = static_cast<size_t>(p.head_dim);
    const float* queries = memory.q + s * call.strip * p.head_dim;
    if (kMaximum && finished) {
      product<true>(queries, keys.keys, width, width, keys.rows(), memory.scores, maximum, ahead, start);
    } else {
      product<false>(queries, keys.keys, width, width, keys.rows(), memory.scores, nullptr, ahead, start);
    }
  };
  if (p.position.shaw()) {
    multiply(FromSkewed{call, memory.skewed + s * call.skewed_size(), i0, keys.j0});
  } else if (!call.scratch.bias.empty() && p.softcap == 0) {
    multiply(FromBias{call.scratch.bias.row(block.h) + (i0 - keys.j0)});
  } else {
    multiply(FromZero());
  }
  if (!finished) finish_logits<kMaximum>(call, block, i0, keys, partial, memory, maximum, cap_slope);
}

/// Adds the rows of weights[key][strip] to sums by distance.
inline void add_by_distance(const TiledCall& call, int64_t i0, const KeyTile& keys, const float* weights,
                            float* sums) {
  const Tag f;
  for (int64_t j = keys.j0; j < keys.j1; ++j) {
    float* to = sums + skewed_row(call, i0, j);
    const float* row = weights + (j - keys.j0) * call.strip;
    for (size_t lane = 0; lane < static_cast<size_t>(call.strip); lane += hn::Lanes(f)) {
      hn::Store(hn::Add(hn::Load(f, to + lane), hn::Load(f, row + lane)), f, to + lane);
    }
  }
}

/// Kind of the tile for one strip.
HWY_INLINE TileKind strip_kind(const TiledCall& call, const QueryBlock& block, int64_t s,
                               const KeyTile& keys) {
  if (!keys.partial) return TileKind::full;
  const int64_t i0 = block.first + s * call.strip, i1 = std::min(i0 + call.strip, block.first + block.count);
  return call.rule.tile(block.b, i0, i1, keys.j0, keys.j1);
}

/// Strips of the block that see something of the tile.
inline int64_t visiting_strips(const TiledCall& call, const QueryBlock& block, const KeyTile& keys) {
  int64_t count = 0;
  for (int64_t s = 0; s < block.strips(call.strip); ++s) {
    if (strip_kind(call, block, s, keys) != TileKind::empty) ++count;
  }
  return count;
}

/// The part of a tile that the strip's band and padding leave.
inline KeyTile visible_part(const TiledCall& call, const QueryBlock& block, int64_t s, const KeyTile& keys) {
  const int64_t i0 = block.first + s * call.strip, i1 = std::min(i0 + call.strip, block.first + block.count);
  const KeyRange range = call.rule.rows_range(block.b, i0, i1);
  KeyTile part = keys;
  part.j0 = std::max(keys.j0, range.begin);
  part.j1 = std::min(keys.j1, range.end);
  part.keys += (part.j0 - keys.j0) * call.p.head_dim;
  part.values += (part.j0 - keys.j0) * call.p.value_dim;
  return part;
}

HWY_INLINE bool block_partial(const TiledCall& call, const QueryBlock& block, int64_t tile) {
  const int64_t j0 = tile * call.tiling.key_tile, j1 = std::min(j0 + call.tiling.key_tile, call.p.seq_kv);
  return call.rule.tile(block.b, block.first, block.first + block.count, j0, j1) != TileKind::full;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#endif  // ATTN_TILED_BLOCK_INL_H_
