// Rows on their way between tensors and the transposed strips of the tiled kernels: storage types,
// transposes. One copy per instruction set.

#if defined(ATTN_TILED_ROWS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTN_TILED_ROWS_INL_H_
#undef ATTN_TILED_ROWS_INL_H_
#else
#define ATTN_TILED_ROWS_INL_H_
#endif

#include <algorithm>
#include <cstring>

#include "harness/problem/tensor.h"
#include "variants/common/position_cpu.h"
#include "variants/common/simd_tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

/// The row (b, i, h) of a tensor of this storage type.
HWY_INLINE const void* row_at(const ConstTensor& tensor, Dtype dtype, int64_t b, int64_t i, int64_t h) {
  return tensor.row<char>(0, 0, 0) + tensor.offset(b, i, h) * static_cast<int64_t>(bytes_of(dtype));
}
HWY_INLINE void* row_at(const Tensor& tensor, Dtype dtype, int64_t b, int64_t i, int64_t h) {
  return tensor.row<char>(0, 0, 0) + tensor.offset(b, i, h) * static_cast<int64_t>(bytes_of(dtype));
}

#if HWY_TARGET == HWY_SSE4 || HWY_TARGET == HWY_SSSE3 || HWY_TARGET == HWY_EMU128 || HWY_TARGET == HWY_SCALAR
inline constexpr bool kConvertsHalf = false;  // no instruction; Highway's emulation does not round
#else
inline constexpr bool kConvertsHalf = true;
#endif

static_assert(HWY_LANES(float) >= 4,
              "rows are transposed four at a time, so a strip holds a multiple of four");

using Bits = hn::RebindToUnsigned<Tag>;
using Bits16 = hn::Rebind<uint16_t, Tag>;
using Half = hn::Rebind<hwy::float16_t, Tag>;

HWY_INLINE Vec load_vector(Dtype dtype, const uint16_t* from) {
  if (dtype == Dtype::bf16) {
    return hn::BitCast(Tag(), hn::ShiftLeft<16>(hn::PromoteTo(Bits(), hn::LoadU(Bits16(), from))));
  }
  if constexpr (kConvertsHalf) {
    return hn::PromoteTo(Tag(), hn::LoadU(Half(), reinterpret_cast<const hwy::float16_t*>(from)));
  }
  return hn::Zero(Tag());
}

/// Rounds to the nearest, ties to even; NaN stays NaN.
HWY_INLINE void store_vector(Dtype dtype, Vec value, uint16_t* to) {
  if (dtype == Dtype::bf16) {
    const Bits b;
    const auto bits = hn::BitCast(b, value);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(b, 1));
    const auto rounded = hn::Add(bits, hn::Add(odd, hn::Set(b, 0x7fff)));
    const auto quiet = hn::Or(bits, hn::Set(b, 0x400000));
    const auto chosen = hn::IfThenElse(hn::RebindMask(b, hn::IsNaN(value)), quiet, rounded);
    hn::StoreU(hn::DemoteTo(Bits16(), hn::BitCast(IntTag(), hn::ShiftRight<16>(chosen))), Bits16(), to);
  } else if constexpr (kConvertsHalf) {
    hn::StoreU(hn::DemoteTo(Half(), value), Half(), reinterpret_cast<hwy::float16_t*>(to));
  }
}

/// out[width] = the stored row.
HWY_INLINE void load_row(Dtype dtype, const void* row, int64_t width, float* HWY_RESTRICT out) {
  const auto n = static_cast<int64_t>(hn::Lanes(Tag()));
  int64_t c = 0;
  if (dtype == Dtype::f32) {
    const auto* from = static_cast<const float*>(row);  // rows are short: a call to memcpy costs more
    for (; c + n <= width; c += n) hn::StoreU(hn::LoadU(Tag(), from + c), Tag(), out + c);
  } else if (dtype == Dtype::bf16 || kConvertsHalf) {
    for (; c + n <= width; c += n) {
      hn::StoreU(load_vector(dtype, static_cast<const uint16_t*>(row) + c), Tag(), out + c);
    }
  }
  for (; c < width; ++c) out[c] = load(dtype, row, c);
}

/// The stored row = values[width], rounded.
HWY_INLINE void store_row(Dtype dtype, const float* HWY_RESTRICT values, int64_t width, void* row) {
  if (dtype == Dtype::f32) {
    std::memcpy(row, values, sizeof(float) * static_cast<size_t>(width));
    return;
  }
  const auto n = static_cast<int64_t>(hn::Lanes(Tag()));
  int64_t c = 0;
  if (dtype == Dtype::bf16 || kConvertsHalf) {
    for (; c + n <= width; c += n) {
      store_vector(dtype, hn::LoadU(Tag(), values + c), static_cast<uint16_t*>(row) + c);
    }
  }
  for (; c < width; ++c) store(dtype, row, c, values[c]);
}

/// Rotates a row of head_dim channels in place; sign = -1 rotates back.
HWY_INLINE void rotate_row(const RopeTable& rope, int64_t position, float sign, float* HWY_RESTRICT row) {
  const Tag f;
  const int64_t pairs = rope.pairs(), n = static_cast<int64_t>(hn::Lanes(f));
  const float *cosine = rope.cosine(position), *sine = rope.sine(position);
  const Vec direction = hn::Set(f, sign);
  int64_t m = 0;
  for (; m + n <= pairs; m += n) {
    const Vec c = hn::LoadU(f, cosine + m), s = hn::Mul(hn::LoadU(f, sine + m), direction);
    Vec x, y;
    if (rope.interleaved()) {
      hn::LoadInterleaved2(f, row + 2 * m, x, y);
    } else {
      x = hn::LoadU(f, row + m);
      y = hn::LoadU(f, row + pairs + m);
    }
    const Vec turned_x = hn::NegMulAdd(y, s, hn::Mul(x, c)), turned_y = hn::MulAdd(x, s, hn::Mul(y, c));
    if (rope.interleaved()) {
      hn::StoreInterleaved2(turned_x, turned_y, f, row + 2 * m);
    } else {
      hn::StoreU(turned_x, f, row + m);
      hn::StoreU(turned_y, f, row + pairs + m);
    }
  }
  for (; m < pairs; ++m) {
    const ChannelPair channel = rope_channels(rope.interleaved(), 2 * pairs, m);
    const float x = row[channel.first], y = row[channel.second], s = sign * sine[m];
    row[channel.first] = x * cosine[m] - y * s;
    row[channel.second] = x * s + y * cosine[m];
  }
}

/// to[column][4] = four rows of one vector each, transposed; columns are `to_stride` apart.
HWY_INLINE void transpose_four(Vec r0, Vec r1, Vec r2, Vec r3, float* HWY_RESTRICT to, size_t to_stride) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  HWY_ALIGN float staged[4 * hn::MaxLanes(Tag())];
  hn::StoreInterleaved4(r0, r1, r2, r3, f, staged);
  for (size_t c = 0; c < n; ++c) std::memcpy(to + c * to_stride, staged + 4 * c, 4 * sizeof(float));
}

/// The sum of both halves, down to four lanes.
template <class V>
HWY_INLINE auto fold_blocks(V v) {
  const hn::DFromV<V> d;
  if constexpr (hn::MaxLanes(d) > 4) {
    const hn::Half<decltype(d)> half;
    return fold_blocks(hn::Add(hn::LowerHalf(half, v), hn::UpperHalf(half, v)));
  } else {
    return v;
  }
}

/// to[4] = the sums over the lanes of four vectors.
HWY_INLINE void sum_four(Vec r0, Vec r1, Vec r2, Vec r3, float* to) {
  const Tag f;
  const hn::RepartitionToWide<Tag> wide;
  const Vec even = hn::Add(hn::InterleaveLower(f, r0, r1), hn::InterleaveUpper(f, r0, r1));
  const Vec odd = hn::Add(hn::InterleaveLower(f, r2, r3), hn::InterleaveUpper(f, r2, r3));
  const auto a = hn::BitCast(wide, even), b = hn::BitCast(wide, odd);
  const Vec low = hn::BitCast(f, hn::InterleaveLower(wide, a, b));
  const Vec high = hn::BitCast(f, hn::InterleaveUpper(wide, a, b));
  const auto sums = fold_blocks(hn::Add(low, high));
  hn::StoreU(sums, hn::DFromV<decltype(sums)>(), to);
}

/// out[columns][out_stride] = rows[count][row_stride] transposed, times `factor`; count is a multiple of 4.
HWY_INLINE void transpose(const float* HWY_RESTRICT rows, size_t row_stride, size_t count, size_t columns,
                          float factor, float* HWY_RESTRICT out, size_t out_stride) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  const Vec scale = hn::Set(f, factor);
  for (size_t r = 0; r < count; r += 4) {
    const float* from = rows + r * row_stride;
    const auto at = [&](size_t row, size_t c) {
      return hn::Mul(hn::LoadU(f, from + row * row_stride + c), scale);
    };
    size_t c = 0;
    for (; c + n <= columns; c += n) {
      transpose_four(at(0, c), at(1, c), at(2, c), at(3, c), out + c * out_stride + r, out_stride);
    }
    for (; c < columns; ++c) {
      for (size_t k = 0; k < 4; ++k) out[c * out_stride + r + k] = from[k * row_stride + c] * factor;
    }
  }
}

/// rows[strip][width] = columns[width][strip] times the factor of the lane.
HWY_INLINE void untranspose_strip(const float* HWY_RESTRICT columns, size_t width,
                                  const float* HWY_RESTRICT factors, float* HWY_RESTRICT rows) {
  const Tag f;
  const size_t n = hn::Lanes(f), strip = strip_width();
  size_t c = 0;
  for (; c + 4 <= width; c += 4) {
    for (size_t lane = 0; lane < strip; lane += n) {
      const Vec factor = hn::Load(f, factors + lane);
      const auto at = [&](size_t k) {
        return hn::Mul(hn::Load(f, columns + (c + k) * strip + lane), factor);
      };
      transpose_four(at(0), at(1), at(2), at(3), rows + lane * width + c, width);
    }
  }
  for (; c < width; ++c) {
    for (size_t lane = 0; lane < strip; ++lane)
      rows[lane * width + c] = columns[c * strip + lane] * factors[lane];
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#endif  // ATTN_TILED_ROWS_INL_H_
