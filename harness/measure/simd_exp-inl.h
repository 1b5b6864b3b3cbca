// The exponential of the CPU kernels, one copy per instruction set (included under Highway's foreach_target).
// It stands here because its rate is one of the measured roofs: kernels and roof must run the same code.

#if defined(ATTN_SIMD_EXP_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef ATTN_SIMD_EXP_INL_H_
#undef ATTN_SIMD_EXP_INL_H_
#else
#define ATTN_SIMD_EXP_INL_H_
#endif

#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

namespace hn = hwy::HWY_NAMESPACE;

using Tag = hn::ScalableTag<float>;
using Vec = hn::Vec<Tag>;

/// 2^x for x <= 126, exactly 0 below -126 (so also at -inf). Minimax polynomial of degree 5, 1.7e-7 relative,
/// 1.8e-7 without FMA.
HWY_INLINE Vec exp2_fast(Vec x) {
  const Tag f;
  const hn::RebindToSigned<Tag> i;
  const Vec magic = hn::Set(f, 12582912.0f);  // 1.5 * 2^23: the sum's low bits are the nearest integer
  const Vec clamped = hn::Max(x, hn::Set(f, -127.0f));
  const Vec shifted = hn::Add(clamped, magic);
  const Vec t = hn::Sub(clamped, hn::Sub(shifted, magic));  // in [-1/2, 1/2]
  Vec p = hn::Set(f, 1.3264728e-3f);
  p = hn::MulAdd(p, t, hn::Set(f, 9.671513e-3f));
  p = hn::MulAdd(p, t, hn::Set(f, 5.5507336e-2f));
  p = hn::MulAdd(p, t, hn::Set(f, 2.4022242e-1f));
  p = hn::MulAdd(p, t, hn::Set(f, 6.93147e-1f));
  p = hn::MulAdd(p, t, hn::Set(f, 1.0f));
  const auto exponent = hn::ShiftLeft<23>(hn::BitCast(i, shifted));
  const Vec power = hn::BitCast(f, hn::Add(hn::BitCast(i, p), exponent));
  return hn::IfThenElseZero(hn::Ge(x, hn::Set(f, -126.0f)), power);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#endif  // ATTN_SIMD_EXP_INL_H_
