// exp2_fast against the double-precision exponential, for every instruction set compiled in.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/exp2_test.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first.
#include "harness/measure/simd_exp-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {

/// out[k] = 2^in[k]; `count` is a multiple of the vector length.
void exponentiate(const float* in, size_t count, float* out) {
  const Tag f;
  for (size_t k = 0; k < count; k += hn::Lanes(f)) hn::StoreU(exp2_fast(hn::LoadU(f, in + k)), f, out + k);
}

}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "tests/catch.h"

namespace attn {

HWY_EXPORT(exponentiate);

namespace {

using Exponentiate = std::function<std::vector<float>(std::vector<float>)>;

/// The exponential as a function on any number of values, once per instruction set of this machine.
void for_each_target(const std::function<void(const Exponentiate&)>& test) {
  for (int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(hwy::SupportedTargets());
    INFO(hwy::TargetName(target));
    test([](std::vector<float> values) {
      const size_t count = values.size();
      values.resize((count + 63) / 64 * 64);  // 64 lanes: the longest vector there is
      std::vector<float> results(values.size());
      HWY_DYNAMIC_DISPATCH(exponentiate)(values.data(), values.size(), results.data());
      results.resize(count);
      return results;
    });
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

double largest_relative_error(const std::vector<float>& values, const std::vector<float>& results) {
  double largest = 0;
  for (size_t k = 0; k < values.size(); ++k) {
    const double exact = std::exp2(static_cast<double>(values[k]));
    const double error = std::abs(results[k] - exact) / exact;
    if (!(error <= largest)) largest = error;  // NaN counts as larger
  }
  return largest;
}

}  // namespace

TEST_CASE("exp2_fast is within 2e-7 of the exponential from -126 to 126") {
  constexpr int64_t kSteps = 2'000'003;  // odd: no step falls on the same fraction in every octave
  std::vector<float> values = {-126.0f, 126.0f, 0.0f, -0.0f};
  for (int64_t k = 0; k <= kSteps; ++k) {
    values.push_back(static_cast<float>(-126 + 252 * static_cast<double>(k) / kSteps));
  }
  for_each_target([&](const Exponentiate& exp2) {
    CHECK(largest_relative_error(values, exp2(values)) <= 2e-7);
    CHECK(exp2({0.0f})[0] == 1.0f);
  });
}

TEST_CASE("exp2_fast is exactly 0 below -126") {
  const float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> below = {std::nextafter(-126.0f, -127.0f),     -126.5f,  -127.0f, -150.0f, -1e6f,
                                    std::numeric_limits<float>::lowest(), -infinity};
  for_each_target([&](const Exponentiate& exp2) {
    for (float power : exp2(below)) CHECK(power == 0.0f);
  });
}

}  // namespace attn
#endif  // HWY_ONCE
