#include "harness/analysis/interval.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace attn {
namespace {

/// P(|t| < value) for whole degrees of freedom.
double student_t_two_sided(double value, int64_t degrees) {
  const double theta = std::atan(value / std::sqrt(static_cast<double>(degrees)));
  const double cosine_squared = std::cos(theta) * std::cos(theta);
  const bool odd = degrees % 2 == 1;
  double term = odd ? std::cos(theta) : 1, sum = degrees == 1 ? 0 : term;
  for (int64_t k = odd ? 3 : 2; k <= degrees - 2; k += 2) {
    const auto number = static_cast<double>(k);
    term *= cosine_squared * (number - 1) / number;
    sum += term;
  }
  return odd ? 2 / std::numbers::pi * (theta + std::sin(theta) * sum) : std::sin(theta) * sum;
}

}  // namespace

double median(std::vector<double> samples) { return quantile(std::move(samples), 0.5); }

double quantile(std::vector<double> samples, double p) {
  if (samples.empty()) return std::numeric_limits<double>::quiet_NaN();
  const double place = p * static_cast<double>(samples.size() - 1);
  const auto below = static_cast<size_t>(place);
  const double weight = place - static_cast<double>(below);
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(below);
  std::nth_element(samples.begin(), middle, samples.end());
  if (middle + 1 == samples.end()) return *middle;
  return *middle * (1 - weight) + *std::min_element(middle + 1, samples.end()) * weight;
}

int64_t median_rank(int64_t count, double confidence) {
  const double n = static_cast<double>(count), allowed = (1 - confidence) / 2;
  double tail = 0;  // P(Binomial(count, 1/2) < rank)
  int64_t rank = 0;
  for (int64_t below = 0; 2 * below < count; ++below) {
    const auto k = static_cast<double>(below);
    // In logarithms, because 2^-count underflows from some 1000 samples on.
    tail +=
        std::exp(std::lgamma(n + 1) - std::lgamma(k + 1) - std::lgamma(n - k + 1) - n * std::numbers::ln2);
    if (tail > allowed) break;
    rank = below + 1;
  }
  return rank;
}

Interval median_interval(std::vector<double> samples, double confidence) {
  const int64_t rank = median_rank(static_cast<int64_t>(samples.size()), confidence);
  if (rank == 0) return {};
  std::sort(samples.begin(), samples.end());
  return {samples[static_cast<size_t>(rank - 1)], samples[samples.size() - static_cast<size_t>(rank)]};
}

double student_t_upper(double value, int64_t degrees) {
  const double outside = std::max(1 - student_t_two_sided(std::abs(value), degrees), 0.0) / 2;
  return value >= 0 ? outside : 1 - outside;
}

double student_t_quantile(double probability, int64_t degrees) {
  if (probability < 0.5) return -student_t_quantile(1 - probability, degrees);
  const double wanted = 2 * probability - 1;
  double low = 0, high = 1;
  while (student_t_two_sided(high, degrees) < wanted && high < 1e300) high *= 2;
  for (int step = 0; step < 200 && low < high; ++step) {
    const double middle = (low + high) / 2;
    if (middle == low || middle == high) break;
    (student_t_two_sided(middle, degrees) < wanted ? low : high) = middle;
  }
  return (low + high) / 2;
}

}  // namespace attn
