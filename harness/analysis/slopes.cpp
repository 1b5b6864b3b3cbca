#include "harness/analysis/slopes.h"

#include <algorithm>

#include "harness/analysis/interval.h"
#include "harness/analysis/model.h"
#include "harness/analysis/selection.h"

namespace attn {
namespace {

Interval resampled_slope(const Point& from, const Point& to) {
  std::mt19937_64 random(kBootstrapSeed);
  std::vector<double> slopes;
  for (int k = 0; k < kResamples; ++k) {
    const double y1 = resampled_time_s(from, random);
    slopes.push_back(local_exponent(from.x, y1, to.x, resampled_time_s(to, random)));
  }
  return {quantile(slopes, 0.025), quantile(slopes, 0.975)};
}

Number declared_slope(const Point& from, const Point& to, Quantity quantity) {
  const auto y1 = declared_value(*from.row, quantity), y2 = declared_value(*to.row, quantity);
  if (!y1 || !y2 || *y1 <= 0 || *y2 <= 0) return {};
  return local_exponent(from.x, *y1, to.x, *y2);
}

}  // namespace

std::vector<SlopeRow> local_slopes(const Series& series, Quantity quantity) {
  const std::vector<Point> used = select_points(series, quantity).used;
  std::vector<Point> measured;
  for (const Point& point : series.points) {
    const auto value = measured_value(*point.row, quantity);
    if (point.row->status == Status::ok && value && *value > 0) measured.push_back(point);
  }
  std::vector<SlopeRow> rows;
  for (size_t i = 1; i < measured.size(); ++i) {
    const Point &from = measured[i - 1], &to = measured[i];
    SlopeRow row{series.variant, to_text(series.axis), to_text(quantity), series.setting, from.x, to.x};
    row.exponent = local_exponent(from.x, *measured_value(*from.row, quantity), to.x,
                                  *measured_value(*to.row, quantity));
    row.exponent_ci_low = row.exponent_ci_high = row.exponent;
    if (quantity == Quantity::time) {
      const Interval interval = resampled_slope(from, to);
      row.exponent_ci_low = interval.low;
      row.exponent_ci_high = interval.high;
    }
    row.declared_exponent = declared_slope(from, to, quantity);
    row.fitted = !used.empty() && from.x >= used.front().x ? "yes" : "no";
    rows.push_back(row);
  }
  return rows;
}

std::vector<SlopeRow> all_slopes(const std::vector<Series>& sweeps) {
  std::vector<SlopeRow> rows;
  for (const Series& series : sweeps) {
    for (const Quantity quantity : kQuantities) {
      const std::vector<SlopeRow> slopes = local_slopes(series, quantity);
      rows.insert(rows.end(), slopes.begin(), slopes.end());
    }
  }
  return rows;
}

}  // namespace attn
