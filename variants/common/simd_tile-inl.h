// Micro-kernels of the tiled CPU variants, one copy per instruction set (included under Highway's
// foreach_target).
//
// A strip is kStripVectors vectors of queries; tiles are kept transposed, [key][query in strip], so that
// maximum, sum and rescaling are vertical and keys, values and tables enter as broadcasts only. Row counts
// are template parameters because an accumulator array stays in registers only when its loops unroll
// completely.

#if defined(ATTN_SIMD_TILE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTN_SIMD_TILE_INL_H_
#undef ATTN_SIMD_TILE_INL_H_
#else
#define ATTN_SIMD_TILE_INL_H_
#endif

#include <hwy/contrib/math/math-inl.h>
#include <hwy/highway.h>

#include "harness/measure/simd_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vec = hn::Vec<Tag>;
using IntTag = hn::RebindToSigned<Tag>;

inline constexpr size_t kStripVectors = 3;
// 32 registers hold 8 x 3 accumulators, 16 hold 4 x 3.
#if HWY_TARGET <= HWY_AVX3 || HWY_TARGET == HWY_NEON
inline constexpr size_t kRowGroup = 8;
#else
inline constexpr size_t kRowGroup = 4;
#endif

HWY_INLINE size_t strip_width() { return kStripVectors * hn::Lanes(Tag()); }

/// out[r][strip] = sum_c rows[r][c] * columns[c][strip] for kRows rows; `maximum` [strip] is raised to their
/// maximum.
template <size_t kRows, bool kMaximum>
HWY_INLINE void product_group(const float* HWY_RESTRICT columns, const float* HWY_RESTRICT rows,
                              size_t row_stride, size_t width, float* HWY_RESTRICT out,
                              float* HWY_RESTRICT maximum) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  Vec a0[kRows], a1[kRows], a2[kRows];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) a0[r] = a1[r] = a2[r] = hn::Zero(f);
  for (size_t c = 0; c < width; ++c) {
    const Vec x0 = hn::Load(f, columns), x1 = hn::Load(f, columns + n), x2 = hn::Load(f, columns + 2 * n);
    columns += kStripVectors * n;
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const Vec y = hn::Set(f, rows[r * row_stride + c]);
      a0[r] = hn::MulAdd(y, x0, a0[r]);
      a1[r] = hn::MulAdd(y, x1, a1[r]);
      a2[r] = hn::MulAdd(y, x2, a2[r]);
    }
  }
  Vec m0 = a0[0], m1 = a1[0], m2 = a2[0];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
    if constexpr (kMaximum) {
      m0 = hn::Max(m0, a0[r]);
      m1 = hn::Max(m1, a1[r]);
      m2 = hn::Max(m2, a2[r]);
    }
    hn::Store(a0[r], f, out);
    hn::Store(a1[r], f, out + n);
    hn::Store(a2[r], f, out + 2 * n);
    out += kStripVectors * n;
  }
  if constexpr (kMaximum) {
    hn::Store(hn::Max(m0, hn::Load(f, maximum)), f, maximum);
    hn::Store(hn::Max(m1, hn::Load(f, maximum + n)), f, maximum + n);
    hn::Store(hn::Max(m2, hn::Load(f, maximum + 2 * n)), f, maximum + 2 * n);
  }
}

/// The same for any number of rows: out[count][strip] = rows[count][width] * columns[width][strip].
template <bool kMaximum>
HWY_NOINLINE void product(const float* columns, const float* rows, size_t row_stride, size_t width,
                          size_t count, float* out, float* maximum) {
  const size_t strip = strip_width();
  size_t r = 0;
  const auto advance = [&](size_t done) {
    r += done;
    rows += done * row_stride;
    out += done * strip;
  };
  while (count - r >= kRowGroup) {
    product_group<kRowGroup, kMaximum>(columns, rows, row_stride, width, out, maximum);
    advance(kRowGroup);
  }
  while (count - r >= 2) {
    product_group<2, kMaximum>(columns, rows, row_stride, width, out, maximum);
    advance(2);
  }
  if (r < count) product_group<1, kMaximum>(columns, rows, row_stride, width, out, maximum);
}

/// sums[c][strip] += sum_r weights[r][strip] * rows[r][c] for kColumns columns c; kSelect leaves out pairs of
/// zero weight, for rows that may hold NaN where nothing may see them.
template <size_t kColumns, bool kSelect>
HWY_INLINE void accumulate_group(const float* HWY_RESTRICT weights, const float* HWY_RESTRICT rows,
                                 size_t row_stride, size_t count, float* HWY_RESTRICT sums) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  Vec a0[kColumns], a1[kColumns], a2[kColumns];
#pragma GCC unroll 8
  for (size_t c = 0; c < kColumns; ++c) {
    a0[c] = hn::Load(f, sums + (c * kStripVectors + 0) * n);
    a1[c] = hn::Load(f, sums + (c * kStripVectors + 1) * n);
    a2[c] = hn::Load(f, sums + (c * kStripVectors + 2) * n);
  }
  for (size_t r = 0; r < count; ++r) {
    const Vec w0 = hn::Load(f, weights), w1 = hn::Load(f, weights + n), w2 = hn::Load(f, weights + 2 * n);
    weights += kStripVectors * n;
#pragma GCC unroll 8
    for (size_t c = 0; c < kColumns; ++c) {
      const Vec y = hn::Set(f, rows[c]);
      if constexpr (kSelect) {
        const Vec zero = hn::Zero(f);
        a0[c] = hn::Add(a0[c], hn::IfThenElseZero(hn::Ne(w0, zero), hn::Mul(w0, y)));
        a1[c] = hn::Add(a1[c], hn::IfThenElseZero(hn::Ne(w1, zero), hn::Mul(w1, y)));
        a2[c] = hn::Add(a2[c], hn::IfThenElseZero(hn::Ne(w2, zero), hn::Mul(w2, y)));
      } else {
        a0[c] = hn::MulAdd(y, w0, a0[c]);
        a1[c] = hn::MulAdd(y, w1, a1[c]);
        a2[c] = hn::MulAdd(y, w2, a2[c]);
      }
    }
    rows += row_stride;
  }
#pragma GCC unroll 8
  for (size_t c = 0; c < kColumns; ++c) {
    hn::Store(a0[c], f, sums + (c * kStripVectors + 0) * n);
    hn::Store(a1[c], f, sums + (c * kStripVectors + 1) * n);
    hn::Store(a2[c], f, sums + (c * kStripVectors + 2) * n);
  }
}

/// sums[width][strip] += rows[count][width]^T * weights[count][strip].
template <bool kSelect>
HWY_NOINLINE void accumulate(const float* weights, const float* rows, size_t row_stride, size_t width,
                             size_t count, float* sums) {
  const size_t strip = strip_width();
  size_t c = 0;
  for (; width - c >= kRowGroup; c += kRowGroup) {
    accumulate_group<kRowGroup, kSelect>(weights, rows + c, row_stride, count, sums + c * strip);
  }
  for (; width - c >= 2; c += 2) {
    accumulate_group<2, kSelect>(weights, rows + c, row_stride, count, sums + c * strip);
  }
  if (c < width) accumulate_group<1, kSelect>(weights, rows + c, row_stride, count, sums + c * strip);
}

/// sums[r][vectors] += sum_q weights[r][q] * columns[q][vectors] for kRows rows r and kVectors vectors.
template <size_t kRows, size_t kVectors>
HWY_INLINE void outer_group(const float* HWY_RESTRICT weights, size_t queries,
                            const float* HWY_RESTRICT columns, size_t column_stride, float* HWY_RESTRICT sums,
                            size_t sum_stride) {
  const Tag f;
  const size_t n = hn::Lanes(f), strip = strip_width();
  Vec a[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) a[r][v] = hn::LoadU(f, sums + r * sum_stride + v * n);
  }
  for (size_t q = 0; q < queries; ++q) {
    Vec x[kVectors];
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) x[v] = hn::LoadU(f, columns + q * column_stride + v * n);
#pragma GCC unroll 8
    for (size_t r = 0; r < kRows; ++r) {
      const Vec y = hn::Set(f, weights[r * strip + q]);
#pragma GCC unroll 4
      for (size_t v = 0; v < kVectors; ++v) a[r][v] = hn::MulAdd(y, x[v], a[r][v]);
    }
  }
#pragma GCC unroll 8
  for (size_t r = 0; r < kRows; ++r) {
#pragma GCC unroll 4
    for (size_t v = 0; v < kVectors; ++v) hn::StoreU(a[r][v], f, sums + r * sum_stride + v * n);
  }
}

template <size_t kRows>
HWY_INLINE void outer_rows(const float* weights, size_t queries, const float* columns, size_t padded_width,
                           float* sums) {
  const size_t n = hn::Lanes(Tag());
  size_t c = 0;
  for (; padded_width - c >= 3 * n; c += 3 * n) {
    outer_group<kRows, 3>(weights, queries, columns + c, padded_width, sums + c, padded_width);
  }
  for (; c < padded_width; c += n) {
    outer_group<kRows, 1>(weights, queries, columns + c, padded_width, sums + c, padded_width);
  }
}

/// sums[count][padded_width] += weights[count][strip] * columns[queries][padded_width]; padded_width is a
/// multiple of the vector length.
[[maybe_unused]] HWY_NOINLINE void outer(const float* weights, size_t count, size_t queries,
                                         const float* columns, size_t padded_width, float* sums) {
  const size_t strip = strip_width();
  size_t r = 0;
  for (; count - r >= kRowGroup; r += kRowGroup) {
    outer_rows<kRowGroup>(weights + r * strip, queries, columns, padded_width, sums + r * padded_width);
  }
  for (; r < count; ++r)
    outer_rows<1>(weights + r * strip, queries, columns, padded_width, sums + r * padded_width);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#endif  // ATTN_SIMD_TILE_INL_H_
