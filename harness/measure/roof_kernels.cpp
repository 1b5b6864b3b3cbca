#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "harness/measure/roof_kernels.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first.
#include "harness/measure/roof_kernels.h"
#include "harness/measure/simd_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

/// 12 independent chains: enough for 2 units of latency 4 to 5, few enough for 16 registers. The multiplier
/// is just below 1 and the addend tiny, so values stay finite and normal.
double multiply_adds(int64_t repeats, float* sink) {
  const Tag d;
  const auto factor = hn::Set(d, 0.999999f), addend = hn::Set(d, 1e-6f);
  auto a0 = hn::Iota(d, 0.f), a1 = hn::Iota(d, 1.f), a2 = hn::Iota(d, 2.f), a3 = hn::Iota(d, 3.f);
  auto a4 = hn::Iota(d, 4.f), a5 = hn::Iota(d, 5.f), a6 = hn::Iota(d, 6.f), a7 = hn::Iota(d, 7.f);
  auto a8 = hn::Iota(d, 8.f), a9 = hn::Iota(d, 9.f), a10 = hn::Iota(d, 10.f), a11 = hn::Iota(d, 11.f);
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    a0 = hn::MulAdd(a0, factor, addend);
    a1 = hn::MulAdd(a1, factor, addend);
    a2 = hn::MulAdd(a2, factor, addend);
    a3 = hn::MulAdd(a3, factor, addend);
    a4 = hn::MulAdd(a4, factor, addend);
    a5 = hn::MulAdd(a5, factor, addend);
    a6 = hn::MulAdd(a6, factor, addend);
    a7 = hn::MulAdd(a7, factor, addend);
    a8 = hn::MulAdd(a8, factor, addend);
    a9 = hn::MulAdd(a9, factor, addend);
    a10 = hn::MulAdd(a10, factor, addend);
    a11 = hn::MulAdd(a11, factor, addend);
  }
  const auto low = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(a4, a5));
  const auto high = hn::Add(hn::Add(hn::Add(a6, a7), hn::Add(a8, a9)), hn::Add(a10, a11));
  *sink = hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
  return 2.0 * 12 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(repeats);
}

/// Loads and stores take other units than the arithmetic, so the arithmetic of exp2_fast is the limit, as it
/// is in the kernels. The arguments are of the size that scores have below their maximum.
double exponentials(int64_t repeats, float* sink) {
  constexpr size_t kCount = 1024;
  const Tag d;
  const size_t n = hn::Lanes(d);
  HWY_ALIGN float in[kCount];
  HWY_ALIGN float out[kCount];
  for (size_t k = 0; k < kCount; ++k) in[k] = -0.01f * static_cast<float>(k);
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    // No two passes are the same: none can be left out.
    hn::Store(hn::Set(d, -static_cast<float>(repeat & 15)), d, in);
    for (size_t k = 0; k < kCount; k += 4 * n) {
      hn::Store(exp2_fast(hn::Load(d, in + k)), d, out + k);
      hn::Store(exp2_fast(hn::Load(d, in + k + n)), d, out + k + n);
      hn::Store(exp2_fast(hn::Load(d, in + k + 2 * n)), d, out + k + 2 * n);
      hn::Store(exp2_fast(hn::Load(d, in + k + 3 * n)), d, out + k + 3 * n);
    }
    *sink += out[static_cast<size_t>(repeat) % kCount];
  }
  return static_cast<double>(kCount) * static_cast<double>(repeats);
}

/// Integer sums: of latency 1, and no bit pattern is slow. 8 chains, 8 loads a step.
double reads(const std::byte* memory, size_t bytes, int64_t repeats, float* sink) {
  const hn::ScalableTag<uint32_t> d;
  const size_t n = hn::Lanes(d), count = bytes / sizeof(uint32_t);
  const auto* values = reinterpret_cast<const uint32_t*>(memory);
  auto a0 = hn::Zero(d), a1 = a0, a2 = a0, a3 = a0, a4 = a0, a5 = a0, a6 = a0, a7 = a0;
  for (int64_t repeat = 0; repeat < repeats; ++repeat) {
    for (size_t k = 0; k < count; k += 8 * n) {
      a0 = hn::Add(a0, hn::Load(d, values + k));
      a1 = hn::Add(a1, hn::Load(d, values + k + n));
      a2 = hn::Add(a2, hn::Load(d, values + k + 2 * n));
      a3 = hn::Add(a3, hn::Load(d, values + k + 3 * n));
      a4 = hn::Add(a4, hn::Load(d, values + k + 4 * n));
      a5 = hn::Add(a5, hn::Load(d, values + k + 5 * n));
      a6 = hn::Add(a6, hn::Load(d, values + k + 6 * n));
      a7 = hn::Add(a7, hn::Load(d, values + k + 7 * n));
    }
  }
  const auto low = hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)),
             high = hn::Add(hn::Add(a4, a5), hn::Add(a6, a7));
  // Not their sum: GCC reduces in signed integers, which the sanitizer would report.
  *sink = static_cast<float>(hn::GetLane(hn::MaxOfLanes(d, hn::Add(low, high))));
  return static_cast<double>(bytes) * static_cast<double>(repeats);
}

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attn {
namespace {

HWY_EXPORT(multiply_adds);
HWY_EXPORT(exponentials);
HWY_EXPORT(reads);
HWY_EXPORT(target_name);

}  // namespace

double run_multiply_adds(int64_t repeats, float* sink) {
  return HWY_DYNAMIC_DISPATCH(multiply_adds)(repeats, sink);
}
double run_exponentials(int64_t repeats, float* sink) {
  return HWY_DYNAMIC_DISPATCH(exponentials)(repeats, sink);
}
double run_reads(const std::byte* memory, size_t bytes, int64_t repeats, float* sink) {
  return HWY_DYNAMIC_DISPATCH(reads)(memory, bytes, repeats, sink);
}

std::string simd_target() {
  float sink = 0;
  run_multiply_adds(1, &sink);  // the first dispatch chooses
  return HWY_DYNAMIC_DISPATCH(target_name)();
}

}  // namespace attn
#endif  // HWY_ONCE
