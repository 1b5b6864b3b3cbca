#include "harness/analysis/fit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace attn {
namespace {

bool exact(Quantity quantity) { return quantity != Quantity::time; }

double log_ratio(double y2, double y1, double x2, double x1) { return std::log(y2 / y1) / std::log(x2 / x1); }

/// Local exponent of the declared work between a point and the next; none where it is not declared.
std::optional<double> local_growth(const Point& from, const Point& to) {
  const auto y1 = from.row->flops_executed, y2 = to.row->flops_executed;
  if (!y1 || !y2 || *y1 <= 0 || *y2 <= 0) return {};
  return log_ratio(*y2, *y1, to.x, from.x);
}

void drop_first(Selection& selection, const std::string& reason) {
  selection.excluded.push_back(fmt::format("{}: {}", selection.used.front().x, reason));
  selection.used.erase(selection.used.begin());
}

void drop_below_floor(Selection& selection) {
  while (selection.used.size() > kSweepPoints && *selection.used.front().row->time_s_median < kTimeFloor_s) {
    drop_first(selection, fmt::format("time below {:.0f} us", kTimeFloor_s * 1e6));
  }
}

void drop_before_final_growth(Selection& selection) {
  const auto& used = selection.used;
  if (used.size() <= kPointsForGrowth) return;
  const auto final_growth = local_growth(used[used.size() - 2], used.back());
  if (!final_growth) return;
  while (used.size() > kPointsForGrowth) {
    const auto growth = local_growth(used[0], used[1]);
    if (!growth || std::abs(*growth - *final_growth) <= kGrowthTolerance) return;
    drop_first(selection,
               fmt::format("work still grows with exponent {:.2f}, later {:.2f}", *growth, *final_growth));
  }
}

struct Data {
  std::vector<double> x, y;
};

Data measured_data(const std::vector<Point>& points, Quantity quantity) {
  Data data;
  for (const Point& point : points) {
    data.x.push_back(point.x);
    data.y.push_back(*measured_value(*point.row, quantity));
  }
  return data;
}

/// The declared quantity over the same points; empty where one lacks it.
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

PowerFit choose_noisy(const Data& data, std::optional<double> declared_growth) {
  const PowerFit power = fit_power(data.x, data.y);
  if (!declared_growth || *declared_growth < kLeastGrowthForOffset || data.x.size() < 4) return power;
  PowerFit offset = fit_offset_power(data.x, data.y);
  const double gain = akaike_corrected(power.residual_rms, data.x.size(), 2) -
                      akaike_corrected(offset.residual_rms, data.x.size(), 3);
  if (!(gain >= kAkaikeMargin) || offset.offset == 0) return power;
  add_profile_interval(offset, data.x, data.y);
  return offset;
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

void fill_fit(FitRow& row, const PowerFit& fit) {
  row.model = fit.has_offset ? "offset_power" : "power";
  row.exponent = fit.exponent;
  row.offset = fit.offset;
  row.coefficient = fit.coefficient;
  row.residual_rms = fit.residual_rms;
  if (!fit.exponent_ci.known()) return;
  row.exponent_ci_low = fit.exponent_ci.low;
  row.exponent_ci_high = fit.exponent_ci.high;
}

std::string verdict_of(const FitRow& row, Quantity quantity) {
  if (row.points < static_cast<int64_t>(kSweepPoints)) return "too few points";
  if (!row.analytic_exponent || !row.exponent_ci_low) return "unknown";
  const double one = *row.analytic_exponent, other = row.analytic_exponent_fitted_range.value_or(one);
  const double slack = exact(quantity) ? kExactTolerance : 0;
  const Interval widened{*row.exponent_ci_low - slack, *row.exponent_ci_high + slack};
  const bool between = std::abs(one - other) <= kGrowthTolerance && widened.low <= std::max(one, other) &&
                       widened.high >= std::min(one, other);
  const bool meets = widened.contains(one) || widened.contains(other) || between;
  return meets ? "agrees" : "differs";
}

/// Zero bytes at every point: nothing to fit, nothing to disagree with.
bool is_zero(const Series& series, Quantity quantity) {
  return std::all_of(series.points.begin(), series.points.end(), [&](const Point& point) {
    return point.row->status != Status::ok || measured_value(*point.row, quantity) == 0.0;
  });
}

void fill_points(FitRow& row, const Selection& selection) {
  row.points = static_cast<int64_t>(selection.used.size());
  row.excluded = static_cast<int64_t>(selection.excluded.size());
  for (const std::string& reason : selection.excluded) {
    row.why_excluded += (row.why_excluded.empty() ? "" : "; ") + reason;
  }
  if (selection.used.empty()) return;
  row.from = selection.used.front().x;
  row.to = selection.used.back().x;
}

}  // namespace

Selection select_points(const Series& series, Quantity quantity) {
  Selection selection;
  for (const Point& point : series.points) {
    const auto value = measured_value(*point.row, quantity);
    if (point.row->status != Status::ok) {
      selection.excluded.push_back(fmt::format("{}: {}", point.x, to_text(point.row->status)));
    } else if (!value || *value <= 0) {
      selection.excluded.push_back(fmt::format("{}: {}", point.x, value ? "zero" : "not measured"));
    } else {
      selection.used.push_back(point);
    }
  }
  if (quantity == Quantity::time) drop_below_floor(selection);
  if (series.axis == Axis::n && (quantity == Quantity::time || quantity == Quantity::flops)) {
    drop_before_final_growth(selection);
  }
  return selection;
}

FitRow fit_series(const Series& series, Quantity quantity) {
  FitRow row;
  row.variant = series.variant;
  row.axis = to_text(series.axis);
  row.quantity = to_text(quantity);
  row.unit = unit_of(quantity);
  row.setting = series.setting;
  const Selection selection = select_points(series, quantity);
  fill_points(row, selection);
  if (exact(quantity) && is_zero(series, quantity)) {
    row.model = "zero";
    row.verdict = "agrees";
    return row;
  }
  row.verdict = "too few points";
  if (selection.used.size() < 2) return row;
  const Data data = measured_data(selection.used, quantity);
  const Data declared = declared_data(selection.used, quantity);
  row.analytic_exponent = analytic_exponent(series, selection.used, quantity);
  if (!declared.x.empty()) row.analytic_exponent_fitted_range = choose_exact(declared).exponent;
  PowerFit fit = exact(quantity) ? choose_exact(data) : choose_noisy(data, row.analytic_exponent);
  if (!exact(quantity) && fit.exponent_ci.known()) {
    const Interval noise = bootstrap_interval(selection.used, data, fit.has_offset);
    fit.exponent_ci = {std::min(fit.exponent_ci.low, noise.low), std::max(fit.exponent_ci.high, noise.high)};
  }
  fill_fit(row, fit);
  row.verdict = verdict_of(row, quantity);
  return row;
}

std::vector<FitRow> fit_all(const std::vector<Series>& sweeps) {
  std::vector<FitRow> rows;
  for (const Series& series : sweeps) {
    for (const Quantity quantity : kQuantities) {
      const bool measured = std::any_of(series.points.begin(), series.points.end(), [&](const Point& point) {
        return measured_value(*point.row, quantity).has_value();
      });
      if (measured) rows.push_back(fit_series(series, quantity));
    }
  }
  const auto key = [](const FitRow& row) {
    return std::tie(row.axis, row.quantity, row.setting, row.variant);
  };
  std::stable_sort(rows.begin(), rows.end(),
                   [&](const FitRow& a, const FitRow& b) { return key(a) < key(b); });
  return rows;
}

}  // namespace attn
