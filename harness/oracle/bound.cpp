#include "harness/oracle/bound.h"

#include <algorithm>
#include <cmath>

namespace attn {
namespace {

constexpr double kEpsilon = 0x1p-23;
constexpr double kSmallest = 0x1p-126;  // results below it may be flushed
constexpr double kGradientAllowance = 3;

}  // namespace

void Condition::include(double score, int64_t count) {
  largest_score = std::max(largest_score, score);
  terms = std::max(terms, count);
}

Bound::Bound(Dtype dtype, int64_t head_dim, const RoundedInputs& rounded)
    : score_factor_(std::max(4.0, 1.5 * std::sqrt(static_cast<double>(head_dim)))),
      storage_epsilon_(dtype == Dtype::f32 ? 0 : epsilon_of(dtype)),
      // times the relative bound, at least 8 eps or one storage epsilon, this covers a weight that is flushed
      floor_(dtype == Dtype::f16 ? 0x1p-15 : kSmallest / (8 * kEpsilon)),
      // a subnormal half is a multiple of 2^-24
      smallest_(dtype == Dtype::f16 ? 0x1p-25 : kSmallest),
      rounded_(rounded) {}

double Bound::relative(const Condition& row) const {
  const double s = row.largest_score;
  const double spread = asks_for_spread() ? std::min(4 * s, 6 * row.largest_spread) : 4 * s;
  return kEpsilon * (8 + score_factor_ * s + static_cast<double>(row.terms) / 4) +
         rounded_.projected * (4 * s + 1) + rounded_.operands.scores * spread + 2 * rounded_.operands.outputs;
}

double Bound::output(const Condition& row, double magnitude, double truth) const {
  if (magnitude == 0) return 0;
  return (relative(row) + storage_epsilon_) * magnitude + storage_epsilon_ * std::abs(truth) + smallest_;
}

double Bound::lse(const Condition& row, double truth) const {
  return std::isinf(truth) ? 0 : relative(row) + kEpsilon * std::abs(truth);
}

double Bound::gradient(const Condition& sum, double magnitude, double truth, double terms_beyond) const {
  if (magnitude == 0) return 0;
  const double relative_error = relative(sum) + kEpsilon * std::sqrt(terms_beyond) + 2 * storage_epsilon_;
  return kGradientAllowance * (relative_error * magnitude + storage_epsilon_ * std::abs(truth)) + smallest_;
}

double Bound::projection(int64_t length) {
  return kEpsilon * (2 + 2 * std::sqrt(static_cast<double>(length)));
}

}  // namespace attn
