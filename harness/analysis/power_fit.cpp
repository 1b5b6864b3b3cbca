#include "harness/analysis/power_fit.h"

#include <algorithm>
#include <cmath>

namespace attn {
namespace {

/// Points with x scaled by its geometric mean, so that x^b stays near 1 for every b.
class Profile {
 public:
  Profile(const std::vector<double>& x, const std::vector<double>& y) : y_(y), power_(x.size()) {
    for (const double value : x) log_centre_ += std::log(value) / static_cast<double>(x.size());
    for (const double value : x) log_x_.push_back(std::log(value) - log_centre_);
  }

  OffsetLine at(double b) const {
    for (size_t i = 0; i < log_x_.size(); ++i) power_[i] = std::exp(b * log_x_[i]);
    return fit_offset_line(power_, y_);
  }

  /// The exponent of least rss: a grid, then golden section around its best point.
  double best_exponent() const {
    constexpr int kSteps = 60;
    constexpr double kStep = (kHighestExponent - kLowestExponent) / kSteps;
    int best = 0;
    double best_rss = at(kLowestExponent).rss;
    for (int k = 1; k <= kSteps; ++k) {
      const double rss = at(kLowestExponent + k * kStep).rss;
      if (rss < best_rss) {
        best = k;
        best_rss = rss;
      }
    }
    const double centre = kLowestExponent + best * kStep;
    return golden_section(std::max(centre - kStep, kLowestExponent),
                          std::min(centre + kStep, kHighestExponent));
  }

  /// Where rss first exceeds the threshold on the way from `from` to `limit`.
  double boundary(double from, double limit, double threshold) const {
    const double step = limit > from ? 0.02 : -0.02;
    double inside = from, outside = limit;
    for (double b = from + step; (limit - b) * step > 0; b += step) {
      if (at(b).rss > threshold) {
        outside = b;
        break;
      }
      inside = b;
    }
    if (outside == limit && at(limit).rss <= threshold) return limit;
    for (int k = 0; k < 40; ++k) {
      const double middle = (inside + outside) / 2;
      (at(middle).rss > threshold ? outside : inside) = middle;
    }
    return inside;
  }

  double centre() const { return std::exp(log_centre_); }

 private:
  double golden_section(double low, double high) const {
    constexpr double kGolden = 0.6180339887498949;
    double left = high - kGolden * (high - low), right = low + kGolden * (high - low);
    double rss_left = at(left).rss, rss_right = at(right).rss;
    while (high - low > 1e-9) {
      if (rss_left < rss_right) {
        high = right;
        right = left;
        rss_right = rss_left;
        left = high - kGolden * (high - low);
        rss_left = at(left).rss;
      } else {
        low = left;
        left = right;
        rss_left = rss_right;
        right = low + kGolden * (high - low);
        rss_right = at(right).rss;
      }
    }
    return (low + high) / 2;
  }

  const std::vector<double>& y_;
  std::vector<double> log_x_;
  mutable std::vector<double> power_;  ///< x^b of the present b
  double log_centre_ = 0;
};

double log_residual_rms(const PowerFit& fit, const std::vector<double>& x, const std::vector<double>& y) {
  double sum = 0;
  for (size_t i = 0; i < x.size(); ++i) sum += std::pow(std::log(y[i] / fit.at(x[i])), 2);
  return std::sqrt(sum / static_cast<double>(x.size()));
}

}  // namespace

double PowerFit::at(double x) const { return offset + coefficient * std::pow(x, exponent); }

PowerFit fit_power(const std::vector<double>& x, const std::vector<double>& y) {
  const auto count = static_cast<double>(x.size());
  double mean_x = 0, mean_y = 0, sxx = 0, sxy = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    mean_x += std::log(x[i]) / count;
    mean_y += std::log(y[i]) / count;
  }
  for (size_t i = 0; i < x.size(); ++i) {
    const double from_mean = std::log(x[i]) - mean_x;
    sxx += from_mean * from_mean;
    sxy += from_mean * (std::log(y[i]) - mean_y);
  }
  PowerFit fit;
  fit.exponent = sxy / sxx;
  fit.coefficient = std::exp(mean_y - fit.exponent * mean_x);
  fit.residual_rms = log_residual_rms(fit, x, y);
  if (x.size() > 2) {
    const double variance = fit.residual_rms * fit.residual_rms * count / (count - 2);
    const double half =
        student_t_quantile(0.975, static_cast<int64_t>(x.size()) - 2) * std::sqrt(variance / sxx);
    fit.exponent_ci = {fit.exponent - half, fit.exponent + half};
  }
  return fit;
}

OffsetLine fit_offset_line(const std::vector<double>& g, const std::vector<double>& y) {
  double aa = 0, ac = 0, cc = 0, a1 = 0, c1 = 0;
  for (size_t i = 0; i < g.size(); ++i) {
    const double of_a = 1 / y[i], of_c = g[i] / y[i];
    aa += of_a * of_a;
    ac += of_a * of_c;
    cc += of_c * of_c;
    a1 += of_a;
    c1 += of_c;
  }
  const double determinant = aa * cc - ac * ac;
  OffsetLine best;
  if (determinant > 1e-14 * aa * cc) best.offset = std::max((cc * a1 - ac * c1) / determinant, 0.0);
  best.slope = (c1 - best.offset * ac) / cc;
  if (best.slope < 0) {
    best.slope = 0;
    best.offset = a1 / aa;
  }
  for (size_t i = 0; i < g.size(); ++i) {
    const double relative_error = (best.offset + best.slope * g[i]) / y[i] - 1;
    best.rss += relative_error * relative_error;
  }
  return best;
}

PowerFit fit_offset_power(const std::vector<double>& x, const std::vector<double>& y) {
  const Profile profile(x, y);
  PowerFit fit;
  fit.has_offset = true;
  fit.exponent = profile.best_exponent();
  const OffsetLine best = profile.at(fit.exponent);
  fit.offset = best.offset;
  fit.coefficient = best.slope * std::pow(profile.centre(), -fit.exponent);
  fit.residual_rms = log_residual_rms(fit, x, y);
  return fit;
}

void add_profile_interval(PowerFit& fit, const std::vector<double>& x, const std::vector<double>& y,
                          double confidence) {
  const auto degrees = static_cast<int64_t>(x.size()) - 3;
  if (degrees < 1) return;
  const Profile profile(x, y);
  const double t = student_t_quantile((1 + confidence) / 2, degrees);
  const double threshold = profile.at(fit.exponent).rss * (1 + t * t / static_cast<double>(degrees));
  fit.exponent_ci = {profile.boundary(fit.exponent, kLowestExponent, threshold),
                     profile.boundary(fit.exponent, kHighestExponent, threshold)};
}

double akaike_corrected(double residual_rms, size_t points, int parameters) {
  const auto k = static_cast<double>(points);
  const double estimated = parameters + 1;  // the variance too
  if (k <= estimated + 1) return std::numeric_limits<double>::infinity();
  const double rms = std::max(residual_rms, 1e-12);  // exact data: below rounding all fits are equal
  return 2 * k * std::log(rms) + 2 * estimated + 2 * estimated * (estimated + 1) / (k - estimated - 1);
}

}  // namespace attn
