#include "harness/analysis/crossover.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "harness/analysis/fit.h"

namespace attn {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

struct Pair {
  const Series* a;
  const Series* b;
  std::vector<Point> points_a, points_b;  ///< the common x
  std::vector<double> x;
};

Pair common_points(const Series& a, const Series& b, Quantity quantity) {
  Pair pair{&a, &b, {}, {}, {}};
  for (const Point& point : a.points) {
    const auto same =
        std::find_if(b.points.begin(), b.points.end(), [&](const Point& p) { return p.x == point.x; });
    if (same == b.points.end() || point.row->status != Status::ok || same->row->status != Status::ok)
      continue;
    if (!measured_value(*point.row, quantity) || !measured_value(*same->row, quantity)) continue;
    pair.points_a.push_back(point);
    pair.points_b.push_back(*same);
    pair.x.push_back(point.x);
  }
  return pair;
}

/// A variant without scratch counts as one byte: its logarithm stays finite and it stays the smaller one.
double log_of(Quantity quantity, double value) {
  return std::log(quantity == Quantity::time ? value : std::max(value, 1.0));
}

std::vector<double> measured_ratios(const Pair& pair, Quantity quantity) {
  std::vector<double> ratios;
  for (size_t i = 0; i < pair.x.size(); ++i) {
    ratios.push_back(log_of(quantity, *measured_value(*pair.points_a[i].row, quantity)) -
                     log_of(quantity, *measured_value(*pair.points_b[i].row, quantity)));
  }
  return ratios;
}

/// Empty where a row lacks the declared quantity.
std::vector<double> declared_ratios(const Pair& pair, Quantity quantity) {
  std::vector<double> ratios;
  for (size_t i = 0; i < pair.x.size(); ++i) {
    const auto a = declared_value(*pair.points_a[i].row, quantity),
               b = declared_value(*pair.points_b[i].row, quantity);
    if (!a || !b) return {};
    ratios.push_back(log_of(quantity, *a) - log_of(quantity, *b));
  }
  return ratios;
}

void swap_variants(Pair& pair) {
  std::swap(pair.a, pair.b);
  std::swap(pair.points_a, pair.points_b);
}

std::vector<double> resampled_crossings(const Pair& pair) {
  std::mt19937_64 random(kBootstrapSeed);
  std::vector<double> found, ratios(pair.x.size());
  for (int k = 0; k < kResamples; ++k) {
    for (size_t i = 0; i < pair.x.size(); ++i) {
      ratios[i] =
          std::log(resampled_time_s(pair.points_a[i], random) / resampled_time_s(pair.points_b[i], random));
    }
    found.push_back(last_crossing(pair.x, ratios).x);
  }
  std::sort(found.begin(), found.end());
  return found;
}

/// Percentile ends; one that falls outside the range stays empty.
void fill_interval(CrossoverRow& row, const std::vector<double>& sorted) {
  const auto place = [&](double p) {
    return sorted[static_cast<size_t>(p * static_cast<double>(sorted.size() - 1))];
  };
  const double low = place(0.025), high = place(0.975);
  if (low > 0 && low < kInfinity) row.crossover_ci_low = low;
  if (high > 0 && high < kInfinity) row.crossover_ci_high = high;
}

void fill_theory(CrossoverRow& row, const Pair& pair, Quantity quantity) {
  const std::vector<double> ratios = declared_ratios(pair, quantity);
  row.theory = "unknown";
  if (ratios.empty()) return;
  const double largest = std::abs(*std::max_element(
      ratios.begin(), ratios.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }));
  if (largest < 1e-9) {
    row.theory = "equal";
    return;
  }
  const LastCrossing crossing = last_crossing(pair.x, ratios);
  row.theory = crossing.x == 0           ? "below throughout"
               : crossing.x == kInfinity ? "above at the end"
                                         : "crosses";
  if (row.theory == "crosses") row.theory_crossover = crossing.x;
}

CrossoverRow compare(Pair pair, Quantity quantity) {
  std::vector<double> ratios = measured_ratios(pair, quantity);
  if (ratios.back() < 0) {
    swap_variants(pair);
    for (double& ratio : ratios) ratio = -ratio;
  }
  CrossoverRow row;
  row.quantity = to_text(quantity);
  row.axis = to_text(pair.a->axis);
  row.setting = pair.a->setting;
  row.variant_a = pair.a->variant;
  row.variant_b = pair.b->variant;
  row.points = static_cast<int64_t>(pair.x.size());
  row.from = pair.x.front();
  row.to = pair.x.back();
  row.ratio_at_to = std::exp(ratios.back());
  fill_theory(row, pair, quantity);
  const LastCrossing crossing = last_crossing(pair.x, ratios);
  row.crossings = crossing.crossings;
  if (crossing.x == kInfinity) {  // exactly equal at the end
    row.verdict = "equal";
  } else if (crossing.x == 0) {
    row.verdict = "not within range";
  } else {
    row.crossover = row.crossover_ci_low = row.crossover_ci_high = crossing.x;
    if (quantity == Quantity::time) {
      row.crossover_ci_low = row.crossover_ci_high = Number{};
      fill_interval(row, resampled_crossings(pair));
    }
    row.verdict = row.crossover_ci_low && row.crossover_ci_high ? "crosses" : "uncertain";
  }
  return row;
}

}  // namespace

LastCrossing last_crossing(const std::vector<double>& x, const std::vector<double>& above) {
  LastCrossing last;
  if (above.empty() || above.back() <= 0) last.x = kInfinity;
  for (size_t i = 0; i + 1 < above.size(); ++i) {
    if ((above[i] <= 0) == (above[i + 1] <= 0)) continue;
    ++last.crossings;
    if (last.x == kInfinity) continue;
    const double share = above[i] / (above[i] - above[i + 1]);
    last.x = std::exp(std::log(x[i]) + share * (std::log(x[i + 1]) - std::log(x[i])));
  }
  return last;
}

std::vector<CrossoverRow> find_crossovers(const std::vector<Series>& sweeps) {
  std::map<std::pair<Axis, std::string>, std::vector<const Series*>> by_setting;
  for (const Series& series : sweeps) {
    const bool wanted = series.axis == Axis::n || series.axis == Axis::density;
    if (wanted) by_setting[{series.axis, series.setting}].push_back(&series);
  }
  std::vector<CrossoverRow> rows;
  for (const Quantity quantity : {Quantity::time, Quantity::workspace, Quantity::total_memory}) {
    for (const auto& [setting, group] : by_setting) {
      for (size_t i = 0; i < group.size(); ++i) {
        for (size_t j = i + 1; j < group.size(); ++j) {
          Pair pair = common_points(*group[i], *group[j], quantity);
          if (pair.x.size() >= 2) rows.push_back(compare(std::move(pair), quantity));
        }
      }
    }
  }
  return rows;
}

}  // namespace attn
