#include "harness/oracle/laboratory.h"

#include <fmt/format.h>

#include <cmath>

#include "harness/run/binding.h"

namespace attn {
namespace {

void round_all(std::vector<float>& values) {
  for (float& value : values) value = std::round(value * 64) / 64;
}

}  // namespace

Inputs<float> Laboratory::inputs(const Problem& problem, uint64_t salt) const {
  Inputs<float> in = make_inputs(problem, Fill::normal, seed_ + 1000 * salt);
  for (auto* tensor : {&in.q, &in.k, &in.v, &in.d_o, &in.shaw_key, &in.shaw_value, &in.t5_bias})
    round_all(*tensor);
  return in;
}

Measured Laboratory::run(const Problem& problem, const Inputs<float>& in) const {
  if (!support_of(variant_, problem, launch_)) throw Unsupported{};
  Binding binding(variant_, problem, in, {.threads = threads_, .launch = launch_});
  binding.run();
  return {
      problem, binding.outputs(),
      make_truth(problem, in, {.threads = threads_, .operand_rounding = variant_.operand_rounding(problem)})};
}

void expect_near(const char* what, int64_t element, double found, double expected, double accepted) {
  if (std::isinf(expected) && found == expected) return;
  if (std::abs(found - expected) <= accepted) return;  // false for NaN
  throw Broken{fmt::format("{}[{}] is {:.9g}, expected {:.9g} within {:.2g}", what, element, found, expected,
                           accepted)};
}

void expect_same(const char* what, const std::vector<float>& a, const std::vector<double>& bound_a,
                 const std::vector<float>& b, const std::vector<double>& bound_b, const ElementMap& map,
                 double factor) {
  for (size_t e = 0; e < a.size(); ++e) {
    const int64_t other = map(static_cast<int64_t>(e));
    if (other < 0) continue;
    const auto o = static_cast<size_t>(other);
    expect_near(what, static_cast<int64_t>(e), a[e], factor * b[o],
                bound_a[e] + std::abs(factor) * bound_b[o]);
  }
}

void expect_same_forward(const Measured& a, const Measured& b) {
  expect_same("o", a.out.o, a.bound("o"), b.out.o, b.bound("o"), same_element);
  expect_same("lse", a.out.lse, a.bound("lse"), b.out.lse, b.bound("lse"), same_element);
}

std::vector<float> gather_rows(const std::vector<float>& tensor, int64_t batch, int64_t seq, int64_t heads,
                               int64_t width, const std::vector<int64_t>& order) {
  const int64_t row = heads * width;
  std::vector<float> gathered;
  for (int64_t b = 0; b < batch; ++b) {
    for (int64_t from : order) {
      const auto begin = tensor.begin() + (b * seq + from) * row;
      gathered.insert(gathered.end(), begin, begin + row);
    }
  }
  return gathered;
}

}  // namespace attn
