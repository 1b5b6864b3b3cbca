#include "harness/analysis/fit.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <tuple>

namespace attn {
namespace {

bool exact(Quantity quantity) { return quantity != Quantity::time; }

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

void fill_held_out(FitRow& row, const std::optional<HeldOut>& held_out) {
  if (!held_out) return;
  row.held_out_x = held_out->x;
  row.held_out_error_fitted = held_out->error_fitted;
  row.held_out_error_declared = held_out->error_declared;
  const bool declared = std::abs(held_out->error_declared) <= std::abs(held_out->error_fitted);
  row.held_out_better = declared ? "declared" : "fitted";
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
  row.why_excluded = fmt::format("{}", fmt::join(selection.excluded, "; "));
  row.knees = fmt::format("{}", fmt::join(selection.knees, "; "));
  if (selection.used.empty()) return;
  row.from = selection.used.front().x;
  row.to = selection.used.back().x;
}

}  // namespace

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
  const PowerFit fit =
      exact(quantity) ? choose_exact(data) : choose_noisy(selection.used, row.analytic_exponent);
  fill_fit(row, fit);
  row.loglog_exponent = fit_power(data.x, data.y).exponent;
  fill_held_out(row, hold_out_largest(selection.used, quantity, fit.has_offset));
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
