// Micro-kernels of the tiled CPU variants, one copy per instruction set (included under Highway's
// foreach_target).
//
// A strip is two vectors of queries; tiles are kept transposed, [key][query in strip], so that maximum, sum
// and rescaling are vertical and keys, values and tables enter as broadcasts only. Accumulators of a group of
// rows fill the registers: 12 x 2 where there are 32, 6 x 2 where there are 16. Row counts are template
// parameters because an accumulator array stays in registers only when its loops unroll completely.

#if defined(ATTN_SIMD_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTN_SIMD_TILE_INL_H_
#undef ATTN_SIMD_TILE_INL_H_
#else
#define ATTN_SIMD_TILE_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include <cstdint>
#include <type_traits>
#include <utility>

#include "harness/measure/simd_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vec = hn::Vec<Tag>;
using IntTag = hn::RebindToSigned<Tag>;

inline constexpr size_t kStripVectors = 2;
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr size_t kRowGroup = 12;
#else
inline constexpr size_t kRowGroup = 6;
#endif

HWY_INLINE size_t strip_width() { return kStripVectors * hn::Lanes(Tag()); }

template <size_t kCount>
using Size = std::integral_constant<size_t, kCount>;

/// Calls visit(Size<rows>(), first row) for groups that make up `count` rows.
template <class Visit>
HWY_INLINE void in_groups(size_t count, const Visit& visit) {
  size_t r = 0;
  for (; count - r >= kRowGroup; r += kRowGroup) visit(Size<kRowGroup>(), r);
  for (; count - r >= 4; r += 4) visit(Size<4>(), r);
  for (; count - r >= 2; r += 2) visit(Size<2>(), r);
  if (r < count) visit(Size<1>(), r);
}

/// Rows that are needed soon, read into the second-level cache a few at each step between other work: no
/// hardware prefetcher follows rows that are far apart, and a burst of misses would stall the core.
class Ahead {
 public:
  struct Rows {
    const char* at = nullptr;
    int64_t stride = 0;  ///< bytes
    int64_t bytes = 0;   ///< of a row
    int64_t count = 0;
  };

  Ahead() = default;
  /// First the one, then the other, in `steps` steps.
  Ahead(const Rows& now, const Rows& then, int64_t steps)
      : now_(now),
        then_(then),
        at_a_step_((now.count * lines(now) + then.count * lines(then) + steps - 1) / steps) {}

  HWY_INLINE void step() {
    for (int64_t k = 0; k < at_a_step_; ++k) {
      if (now_.count == 0) std::swap(now_, then_);
      if (now_.count == 0) return;
      __builtin_prefetch(now_.at + column_, 0, 2);
      column_ += 64;
      if (column_ < now_.bytes) continue;
      column_ = 0;
      now_.at += now_.stride;
      --now_.count;
    }
  }

 private:
  Rows now_, then_;
  int64_t at_a_step_ = 0;
  int64_t column_ = 0;

  static int64_t lines(const Rows& rows) { return (rows.bytes + 63) / 64; }
};

/// What `product` adds up to: nothing, or a term given as an object of this form.
struct FromZero {
  /// Vector v of row r's strip.
  HWY_INLINE Vec operator()(size_t /*r*/, size_t /*v*/) const { return hn::Zero(Tag()); }
};

/// out[r][strip] = start(first + r) + sum_c rows[r][c] * columns[c][strip] for kRows rows; `maximum` [strip]
/// is raised to their maximum.
template <size_t kRows, bool kMaximum, class Start>
HWY_INLINE void product_group(const float* HWY_RESTRICT columns, const float* HWY_RESTRICT rows,
                              size_t row_stride, size_t width, const Start& start, size_t first,
                              float* HWY_RESTRICT out, float* HWY_RESTRICT maximum) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  constexpr size_t kQuads = (kRows + 3) / 4;
  Vec a0[kRows], a1[kRows];
  const float* quad[kQuads];  // a pointer for every four rows: twelve would not fit into registers
#pragma GCC unroll 12
  for (size_t r = 0; r < kRows; ++r) {
    a0[r] = start(first + r, 0);
    a1[r] = start(first + r, 1);
  }
#pragma GCC unroll 4
  for (size_t g = 0; g < kQuads; ++g) quad[g] = rows + 4 * g * row_stride;
  for (size_t c = 0; c < width; ++c) {
    const Vec x0 = hn::Load(f, columns), x1 = hn::Load(f, columns + n);
    columns += kStripVectors * n;
#pragma GCC unroll 12
    for (size_t r = 0; r < kRows; ++r) {
      const Vec y = hn::Set(f, quad[r / 4][(r % 4) * row_stride]);
      a0[r] = hn::MulAdd(y, x0, a0[r]);
      a1[r] = hn::MulAdd(y, x1, a1[r]);
    }
#pragma GCC unroll 4
    for (size_t g = 0; g < kQuads; ++g) ++quad[g];
  }
  if constexpr (kMaximum) {
    Vec m0 = hn::Load(f, maximum), m1 = hn::Load(f, maximum + n);
#pragma GCC unroll 12
    for (size_t r = 0; r < kRows; ++r) {
      m0 = hn::Max(m0, a0[r]);
      m1 = hn::Max(m1, a1[r]);
    }
    hn::Store(m0, f, maximum);
    hn::Store(m1, f, maximum + n);
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < kRows; ++r) {
    hn::Store(a0[r], f, out + 2 * r * n);
    hn::Store(a1[r], f, out + (2 * r + 1) * n);
  }
}

/// The same for any number of rows: out[count][strip] = start + rows[count][width] * columns[width][strip].
template <bool kMaximum, class Start = FromZero>
HWY_NOINLINE void product(const float* columns, const float* rows, size_t row_stride, size_t width,
                          size_t count, float* out, float* maximum, Ahead& ahead, Start start = {}) {
  const size_t strip = strip_width();
  in_groups(count, [&](auto group, size_t r) {
    ahead.step();
    product_group<group.value, kMaximum>(columns, rows + r * row_stride, row_stride, width, start, r,
                                         out + r * strip, maximum);
  });
}

/// sums[c][strip] += sum_r weights[r][strip] * rows[r][c] for kColumns columns c; kSelect leaves out pairs of
/// zero weight, for rows that may hold NaN where nothing may see them. A tile is added up by itself first:
/// one sum over thousands of keys would round four times as far.
template <size_t kColumns, bool kSelect>
HWY_INLINE void accumulate_group(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT rows,
                                 size_t row_stride, size_t count, float* HWY_RESTRICT sums) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  Vec a0[kColumns], a1[kColumns];
#pragma GCC unroll 12
  for (size_t c = 0; c < kColumns; ++c) a0[c] = a1[c] = hn::Zero(f);
  for (size_t r = 0; r < count; ++r) {
    const Vec w0 = hn::Load(f, weights), w1 = hn::Load(f, weights + n);
    weights += kStripVectors * n;
#pragma GCC unroll 12
    for (size_t c = 0; c < kColumns; ++c) {
      const Vec y = hn::Set(f, rows[c]);
      if constexpr (kSelect) {
        const Vec zero = hn::Zero(f);
        a0[c] = hn::Add(a0[c], hn::IfThenElseZero(hn::Ne(w0, zero), hn::Mul(w0, y)));
        a1[c] = hn::Add(a1[c], hn::IfThenElseZero(hn::Ne(w1, zero), hn::Mul(w1, y)));
      } else {
        a0[c] = hn::MulAdd(y, w0, a0[c]);
        a1[c] = hn::MulAdd(y, w1, a1[c]);
      }
    }
    rows += row_stride;
  }
#pragma GCC unroll 12
  for (size_t c = 0; c < kColumns; ++c) {
    hn::Store(hn::Add(hn::Load(f, sums + 2 * c * n), a0[c]), f, sums + 2 * c * n);
    hn::Store(hn::Add(hn::Load(f, sums + (2 * c + 1) * n), a1[c]), f, sums + (2 * c + 1) * n);
  }
}

/// sums[width][strip] += rows[count][width]^T * weights[count][strip].
template <bool kSelect>
HWY_NOINLINE void accumulate(const float* weights, const float* rows, size_t row_stride, size_t width,
                             size_t count, float* sums, Ahead& ahead) {
  const size_t strip = strip_width();
  in_groups(width, [&](auto group, size_t c) {
    ahead.step();
    accumulate_group<group.value, kSelect>(weights, rows + c, row_stride, count, sums + c * strip);
  });
}

/// What `outer` adds up: for each of `strips` strips of `queries` queries, weights[row][strip] and
/// columns[query][column_stride].
struct OuterTerms {
  const float* weights;
  size_t weights_stride;  ///< from one strip's weights to the next one's
  const float* columns;
  size_t column_stride;
  size_t strips;
  size_t queries;
};

/// sums[r][kVectors] += sum_q weights[r][q] * columns[q][kVectors] for kRows rows r, over all strips.
template <size_t kRows, size_t kVectors>
HWY_INLINE void outer_group(const OuterTerms& terms, size_t row, size_t column, float* HWY_RESTRICT sums,
                            size_t sum_stride) {
  const Tag f;
  const size_t n = hn::Lanes(f), strip = strip_width();
  constexpr size_t kQuads = (kRows + 3) / 4;
  Vec a[kRows][kVectors];
#pragma GCC unroll 12
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) a[r][v] = hn::LoadU(f, sums + r * sum_stride + v * n);
  }
  const float* HWY_RESTRICT columns = terms.columns + column;
  for (size_t s = 0; s < terms.strips; ++s) {
    const float* HWY_RESTRICT weights = terms.weights + s * terms.weights_stride + row * strip;
    const float* quad[kQuads];
#pragma GCC unroll 4
    for (size_t g = 0; g < kQuads; ++g) quad[g] = weights + 4 * g * strip;
    for (size_t q = 0; q < terms.queries; ++q) {
      Vec x[kVectors];
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) x[v] = hn::LoadU(f, columns + v * n);
      columns += terms.column_stride;
#pragma GCC unroll 12
      for (size_t r = 0; r < kRows; ++r) {
        const Vec y = hn::Set(f, quad[r / 4][(r % 4) * strip + q]);
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) a[r][v] = hn::MulAdd(y, x[v], a[r][v]);
      }
    }
  }
#pragma GCC unroll 12
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(a[r][v], f, sums + r * sum_stride + v * n);
  }
}

/// sums[count][sum_stride] += weights * columns, `width` columns wide: a multiple of the vector length.
[[maybe_unused]] HWY_NOINLINE void outer(const OuterTerms& terms, size_t count, size_t width, float* sums,
                                         size_t sum_stride, Ahead& ahead) {
  const size_t n = hn::Lanes(Tag());
  in_groups(count, [&](auto group, size_t r) {
    float* to = sums + r * sum_stride;
    ahead.step();
    size_t c = 0;
    if constexpr (2 * group.value <= kRowGroup) {
      for (; width - c >= 4 * n; c += 4 * n) outer_group<group.value, 4>(terms, r, c, to + c, sum_stride);
    }
    for (; width - c >= 2 * n; c += 2 * n) outer_group<group.value, 2>(terms, r, c, to + c, sum_stride);
    if (c < width) outer_group<group.value, 1>(terms, r, c, to + c, sum_stride);
  });
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#endif  // ATTN_SIMD_TILE_INL_H_
