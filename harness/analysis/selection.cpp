#include "harness/analysis/selection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/analysis/interval.h"

namespace attn {
namespace {

/// Local exponent of the declared work between a point and the next; none where it is not declared.
std::optional<double> local_growth(const Point& from, const Point& to) {
  const auto y1 = from.row->flops_executed, y2 = to.row->flops_executed;
  if (!y1 || !y2 || *y1 <= 0 || *y2 <= 0) return {};
  return local_exponent(from.x, *y1, to.x, *y2);
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

/// Index of the smallest level that holds operands and workspace; none where something is unknown.
std::optional<size_t> level_of(const ResultRow& row, const std::vector<CacheLevel>& levels) {
  const auto bytes = measured_value(row, Quantity::total_memory);
  const auto planned = declared_value(row, Quantity::total_memory);
  const double needed =
      bytes ? *bytes : planned.value_or(static_cast<double>(row.memory_operands_bytes.value_or(0)));
  if (needed <= 0) return {};
  const auto holds = [&](const CacheLevel& level) { return needed <= level.bytes; };
  return static_cast<size_t>(std::find_if(levels.begin(), levels.end(), holds) - levels.begin());
}

/// How far ln time at point i lies from where the sweep's usual growth would have taken it from point i - 1.
std::vector<double> steps_of(const std::vector<Point>& points) {
  std::vector<double> exponents, steps{0};
  for (size_t i = 1; i < points.size(); ++i) {
    exponents.push_back(local_exponent(points[i - 1].x, *points[i - 1].row->time_s_median, points[i].x,
                                       *points[i].row->time_s_median));
  }
  const double usual = median(exponents);
  for (size_t i = 1; i < points.size(); ++i) {
    steps.push_back((exponents[i - 1] - usual) * std::log(points[i].x / points[i - 1].x));
  }
  return steps;
}

void drop_before_knee(Selection& selection, const std::vector<CacheLevel>& levels) {
  const std::vector<Point> points = selection.used;
  if (levels.empty() || points.size() <= kPointsForGrowth) return;
  const std::vector<double> steps = steps_of(points);
  std::vector<double> sizes;
  for (size_t i = 1; i < steps.size(); ++i) sizes.push_back(std::abs(steps[i]));
  const double notable = std::max(kKneeStep, kKneeScatters * 1.4826 * median(sizes));
  for (size_t i = 1; i < points.size(); ++i) {
    const auto before = level_of(*points[i - 1].row, levels), here = level_of(*points[i].row, levels);
    if (!before || !here || *here <= *before || std::abs(steps[i]) <= notable) continue;
    const std::string knee =
        fmt::format("leaves {}, time steps by {:.2f}", levels[*before].name, std::exp(steps[i]));
    selection.knees.push_back(fmt::format("{}: {}", points[i].x, knee));
    if (points.size() - i < kPointsForGrowth) continue;
    while (selection.used.front().x < points[i].x) {
      drop_first(selection, fmt::format("before the cache knee at {}", points[i].x));
    }
  }
}

}  // namespace

double local_exponent(double x1, double y1, double x2, double y2) {
  return std::log(y2 / y1) / std::log(x2 / x1);
}

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
  if (quantity == Quantity::time) drop_before_knee(selection, series.levels);
  return selection;
}

}  // namespace attn
