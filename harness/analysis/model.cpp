#include "harness/analysis/model.h"

#include <algorithm>

namespace attn {
namespace {

constexpr size_t kPointsForHeldOut = 4;

Interval hull(const Interval& a, const Interval& b) {
  if (!a.known()) return b;
  if (!b.known()) return a;
  return {std::min(a.low, b.low), std::max(a.high, b.high)};
}

/// 95 % percentile interval of the exponent over resampled medians, with the model already chosen.
Interval bootstrap_interval(const std::vector<Point>& points, Data data, bool with_offset) {
  std::mt19937_64 random(kBootstrapSeed);
  std::vector<double> exponents;
  for (int k = 0; k < kResamples; ++k) {
    for (size_t i = 0; i < points.size(); ++i) data.y[i] = resampled_time_s(points[i], random);
    const PowerFit fit = with_offset ? fit_offset_power(data.x, data.y) : fit_power(data.x, data.y);
    exponents.push_back(fit.exponent);
  }
  return {quantile(exponents, 0.025), quantile(exponents, 0.975)};
}

PowerFit power_or_offset(const Data& data, std::optional<double> declared_growth) {
  PowerFit power = fit_power(data.x, data.y);
  const bool possible = declared_growth && *declared_growth >= kLeastGrowthForOffset;
  if (!possible || data.x.size() < kPointsForOffset) return power;
  PowerFit offset = fit_offset_power(data.x, data.y);
  add_profile_interval(offset, data.x, data.y);
  const double gain = akaike_corrected(power.residual_rms, data.x.size(), 2) -
                      akaike_corrected(offset.residual_rms, data.x.size(), 3);
  if (gain >= kAkaikeMargin && offset.offset > 0) return offset;
  // An offset left out makes the power's exponent too small, never too large: one-sided, so 5 % beyond it.
  add_profile_interval(offset, data.x, data.y, 0.9);
  power.exponent_ci.high = std::max(power.exponent_ci.high, offset.exponent_ci.high);
  return power;
}

}  // namespace

Data measured_data(const std::vector<Point>& points, Quantity quantity) {
  Data data;
  for (const Point& point : points) {
    data.x.push_back(point.x);
    data.y.push_back(*measured_value(*point.row, quantity));
  }
  return data;
}

Data declared_data(const std::vector<Point>& points, Quantity quantity) {
  Data data;
  for (const Point& point : points) {
    const auto value = declared_value(*point.row, quantity);
    if (!value || *value <= 0) return {};
    data.x.push_back(point.x);
    data.y.push_back(*value);
  }
  return data;
}

PowerFit choose_exact(const Data& data) {
  const PowerFit power = fit_power(data.x, data.y);
  if (data.x.size() < 4 || power.residual_rms <= kExactResidual) return power;
  PowerFit offset = fit_offset_power(data.x, data.y);
  if (offset.residual_rms > kExactResidual) return power;
  add_profile_interval(offset, data.x, data.y);
  return offset;
}

PowerFit choose_noisy(const std::vector<Point>& points, std::optional<double> declared_growth) {
  const Data data = measured_data(points, Quantity::time);
  PowerFit fit = power_or_offset(data, declared_growth);
  if (fit.exponent_ci.known()) {
    fit.exponent_ci = hull(fit.exponent_ci, bootstrap_interval(points, data, fit.has_offset));
  }
  return fit;
}

std::optional<HeldOut> hold_out_largest(const std::vector<Point>& points, Quantity quantity,
                                        bool with_offset) {
  Data data = measured_data(points, quantity), declared = declared_data(points, quantity);
  if (points.size() < kPointsForHeldOut || declared.x.empty()) return {};
  HeldOut result;
  result.x = data.x.back();
  const double measured = data.y.back(), work = declared.y.back();
  for (std::vector<double>* values : {&data.x, &data.y, &declared.y}) values->pop_back();
  const PowerFit fit = with_offset ? fit_offset_power(data.x, data.y) : fit_power(data.x, data.y);
  const OffsetLine line = fit_offset_line(declared.y, data.y);
  result.error_fitted = fit.at(result.x) / measured - 1;
  result.error_declared = (line.offset + line.slope * work) / measured - 1;
  return result;
}

}  // namespace attn
