// Random inputs: the distribution they claim, a pure function of their address. Conversions of whole rows.

#include "harness/run/inputs.h"

#include <algorithm>
#include <cmath>

#include "tests/catch.h"

namespace attn {
namespace {

constexpr double kTail = 3.442619855899;  // where the generator leaves its layers

double above(double x) { return 0.5 * std::erfc(x / std::sqrt(2.0)); }

std::vector<float> normals(uint64_t seed) {
  return make_inputs(Problem::parse("b=1,hq=8,nq=4096,nk=4096,d=32,mask=none"), Fill::normal, seed).q;
}

}  // namespace

TEST_CASE("normal inputs are normal: moments, distribution, tails, neighbours") {
  std::vector<float> x = normals(1);
  const auto n = static_cast<double>(x.size());
  double first = 0, second = 0, third = 0, fourth = 0, neighbours = 0, in_tail = 0, extreme = 0;
  for (size_t e = 0; e < x.size(); ++e) {
    const double value = x[e], square = value * value;
    first += value;
    second += square;
    third += square * value;
    fourth += square * square;
    if (e > 0) neighbours += value * x[e - 1];
    in_tail += std::abs(value) > kTail;
    extreme = std::max(extreme, std::abs(value));
  }
  // five standard deviations of each estimate
  const double root = 5 / std::sqrt(n);
  CHECK(std::abs(first / n) < root);
  CHECK(std::abs(second / n - 1) < root * std::sqrt(2.0));
  CHECK(std::abs(third / n) < root * std::sqrt(15.0));
  CHECK(std::abs(fourth / n - 3) < root * std::sqrt(96.0));
  CHECK(std::abs(neighbours / n) < root);
  const double expected = 2 * above(kTail);
  CHECK(std::abs(in_tail / n - expected) < root * std::sqrt(expected));
  CHECK(extreme > 4.3);  // 1e6 draws stay below it once in 1e7 times
  CHECK(extreme < 7);
  std::sort(x.begin(), x.end());
  double distance = 0;  // Kolmogorov and Smirnov
  for (size_t e = 0; e < x.size(); ++e) {
    const double below = 1 - above(x[e]);
    distance = std::max({distance, std::abs(below - static_cast<double>(e) / n),
                         std::abs(below - static_cast<double>(e + 1) / n)});
  }
  CHECK(distance * std::sqrt(n) < 1.95);  // 0.1 %
}

TEST_CASE("inputs depend on their seed and tensor alone") {
  CHECK(normals(1) == normals(1));
  CHECK(normals(1) != normals(2));
  const Inputs<float> in =
      make_inputs(Problem::parse("b=2,hq=2,nq=64,nk=64,d=16,mask=none"), Fill::normal, 7);
  CHECK(in.q != in.k);
  CHECK(in.k != in.v);
}

TEST_CASE("rows convert as their elements do") {
  const std::vector<float> values = normals(3);
  for (const Dtype dtype : {Dtype::f32, Dtype::bf16, Dtype::f16}) {
    const int64_t first = 3, count = 1001;
    std::vector<std::byte> memory(static_cast<size_t>(first + count) * bytes_of(dtype));
    store(dtype, memory.data(), first, count, values.data());
    std::vector<float> back(static_cast<size_t>(count));
    load(dtype, memory.data(), first, count, back.data());
    bool same = true;
    for (int64_t e = 0; e < count; ++e) {
      const float expected = round_to(dtype, values[static_cast<size_t>(e)]);
      same = same && back[static_cast<size_t>(e)] == expected &&
             load(dtype, memory.data(), first + e) == expected;
    }
    CHECK(same);
  }
}

}  // namespace attn
