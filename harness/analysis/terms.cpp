#include "harness/analysis/terms.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "harness/analysis/crossover.h"
#include "harness/analysis/fit.h"
#include "harness/analysis/interval.h"
#include "harness/analysis/layers.h"

namespace attn {
namespace {

constexpr Axis kTermAxes[] = {Axis::n, Axis::d, Axis::h_fixed_head, Axis::d_o};
constexpr const char* kCore = "core";
constexpr const char* kProjections = "projections";

/// Empty where the points differ.
Count common_width(const std::vector<Point>& points) {
  for (const Point& point : points) {
    if (point.row->d_model != points.front().row->d_model) return {};
  }
  return points.empty() ? Count{} : Count{points.front().row->d_model};
}

double rate_of(const Point& point) { return *point.row->flops_useful / *point.row->time_s_median; }

/// Median over the points in [from, to].
Number median_rate(const std::vector<Point>& points, const Number& from, const Number& to) {
  std::vector<double> rates;
  for (const Point& point : points) {
    if (from && to && point.x >= *from && point.x <= *to) rates.push_back(rate_of(point));
  }
  return rates.empty() ? Number{} : Number{median(rates)};
}

TermRow along_axis(const Series& series, const std::string& term, const std::string& variant) {
  const FitRow fit = fit_series(series, Quantity::time);
  TermRow row;
  row.variant = variant;
  row.term = term;
  row.axis = fit.axis;
  row.d_model = common_width(series.points);
  row.threads = series.points.front().row->threads;
  row.points = fit.points;
  row.excluded = fit.excluded;
  row.why_excluded = fit.why_excluded;
  row.from = fit.from;
  row.to = fit.to;
  row.model = fit.model;
  row.exponent = fit.exponent;
  row.exponent_ci_low = fit.exponent_ci_low;
  row.exponent_ci_high = fit.exponent_ci_high;
  row.analytic_exponent = fit.analytic_exponent;
  row.residual_rms = fit.residual_rms;
  row.flops_per_s = median_rate(series.points, fit.from, fit.to);
  row.verdict = fit.verdict;
  row.setting = fit.setting;
  return row;
}

/// Without the points that say little about the projections, which the row counts and names.
TermRow projections_along_axis(Series series, const Projections& projections) {
  const Series whole = series;
  std::vector<std::string> reasons;
  std::erase_if(series.points, [&](const Point& point) {
    const std::string& why = projections.unclear[static_cast<size_t>(point.row - projections.rows.data())];
    if (!why.empty()) reasons.push_back(fmt::format("{}: {}", point.x, why));
    return !why.empty();
  });
  const std::string variant = series.variant.substr(kDifference.size());
  TermRow row;
  if (series.points.empty()) {
    row.variant = variant;
    row.term = kProjections;
    row.axis = to_text(series.axis);
    row.threads = whole.points.front().row->threads;
    row.verdict = "too few points";
    row.setting = series.setting;
  } else {
    row = along_axis(series, kProjections, variant);
  }
  row.d_model = common_width(whole.points);
  row.excluded += static_cast<int64_t>(reasons.size());
  if (!row.why_excluded.empty()) reasons.push_back(row.why_excluded);
  row.why_excluded = fmt::format("{}", fmt::join(reasons, "; "));
  return row;
}

/// The time against the whole product, over every shape; x is the useful FLOPs without their constant.
TermRow along_product(std::vector<Point> points, const std::string& term, const std::string& axis) {
  std::erase_if(points, [](const Point& point) { return *point.row->time_s_median < kTimeFloor_s; });
  std::sort(points.begin(), points.end(), [](const Point& a, const Point& b) { return a.x < b.x; });
  TermRow row;
  row.term = term;
  row.axis = axis;
  row.points = static_cast<int64_t>(points.size());
  row.analytic_exponent = 1;
  row.verdict = "too few points";
  if (points.size() < kSweepPoints || points.front().x == points.back().x) return row;
  const PowerFit fit = choose_noisy(points, 1);
  row.from = points.front().x;
  row.to = points.back().x;
  row.model = fit.has_offset ? "offset_power" : "power";
  row.exponent = fit.exponent;
  row.exponent_ci_low = fit.exponent_ci.low;
  row.exponent_ci_high = fit.exponent_ci.high;
  row.residual_rms = fit.residual_rms;
  row.flops_per_s = median_rate(points, row.from, row.to);
  row.verdict = fit.exponent_ci.contains(1) ? "agrees" : "differs";
  return row;
}

std::vector<TermRow> along_products(const std::vector<ResultRow>& rows, const SampleIndex& samples,
                                    const std::string& term, const std::string& axis, double constant) {
  const std::set<std::string_view> shape{"nq", "nk", "hq", "hk", "d", "dv", "dm"};
  std::map<std::pair<std::string, std::string>, std::vector<Point>> groups;
  for (const ResultRow& row : rows) {
    const std::string machine = row.machine.empty() ? "" : ",machine=" + row.machine;
    groups[{row.variant,
            fmt::format("{},threads={}{}", without_fields(row.problem, shape), row.threads, machine)}]
        .push_back(point_at(*row.flops_useful / constant, row, samples));
  }
  std::vector<TermRow> found;
  for (const auto& [key, points] : groups) {
    TermRow row = along_product(points, term, axis);
    row.variant = key.first.substr(term == kProjections ? kDifference.size() : 0);
    row.threads = points.front().row->threads;
    row.setting = key.second;
    found.push_back(row);
  }
  return found;
}

/// ln(core / projections) from times; where noise leaves the projections nothing, a thousandth of the block.
double log_ratio(double core_s, double block_s) {
  return std::log(core_s / std::max(block_s - core_s, 1e-3 * block_s));
}

/// Scatter of the ratios' logarithms around a line in ln n, over the points that say something of both terms;
/// 0 where they are too few to tell.
double scatter_of(const std::vector<double>& n, const std::vector<double>& log_ratios) {
  std::vector<double> x, ratios;
  for (size_t i = 0; i < n.size(); ++i) {
    if (log_ratios[i] > std::log(kLargestCoreShare / (1 - kLargestCoreShare))) continue;
    x.push_back(n[i]);
    ratios.push_back(std::exp(log_ratios[i]));
  }
  if (x.size() < 4) return 0;
  const auto points = static_cast<double>(x.size());
  return fit_power(x, ratios).residual_rms * std::sqrt(points / (points - 2));
}

Interval crossing_interval(const std::vector<Layer>& layers, const std::vector<double>& n, double scatter) {
  std::mt19937_64 random(kBootstrapSeed);
  std::normal_distribution<double> between_processes(0, 1);
  std::vector<double> found, ratios(n.size());
  for (int k = 0; k < kResamples; ++k) {
    for (size_t i = 0; i < n.size(); ++i) {
      const double core_s = resampled_time_s(layers[i].core, random);
      ratios[i] =
          log_ratio(core_s, resampled_time_s(layers[i].block, random)) + scatter * between_processes(random);
    }
    found.push_back(last_crossing(n, ratios).x);
  }
  std::sort(found.begin(), found.end());  // no interpolation: an end may be infinite
  const auto place = [&](double p) { return found[static_cast<size_t>(p * (kResamples - 1))]; };
  return {place(0.025), place(0.975)};
}

bool within_range(double crossing) {
  return crossing > 0 && crossing < std::numeric_limits<double>::infinity();
}

TermRow crossing_of(const std::vector<Layer>& layers) {
  TermRow row;
  const ResultRow& first = *layers.front().block.row;
  row.variant = first.variant;
  row.term = "crossing";
  row.axis = to_text(Axis::n);
  row.d_model = first.d_model;
  row.threads = first.threads;
  row.setting = setting_of(first, Axis::n);
  row.points = static_cast<int64_t>(layers.size());
  row.from = layers.front().core.x;
  row.to = layers.back().core.x;
  row.verdict = "too few points";
  if (layers.size() < kSweepPoints) return row;
  std::vector<double> n, measured, counted;
  for (const Layer& layer : layers) {
    const ResultRow &core = *layer.core.row, &block = *layer.block.row;
    n.push_back(layer.core.x);
    measured.push_back(log_ratio(*core.time_s_median, *block.time_s_median));
    counted.push_back(std::log(*core.flops_useful / (*block.flops_useful - *core.flops_useful)));
  }
  const double theory = last_crossing(n, counted).x, crossing = last_crossing(n, measured).x;
  if (within_range(theory)) row.theory_crossing = theory;
  row.verdict = "not within range";
  if (!within_range(crossing)) return row;
  row.crossing = crossing;
  const Interval interval = crossing_interval(layers, n, scatter_of(n, measured));
  if (within_range(interval.low)) row.crossing_ci_low = interval.low;
  if (within_range(interval.high)) row.crossing_ci_high = interval.high;
  row.verdict = "uncertain";
  if (!row.crossing_ci_low || !row.crossing_ci_high) return row;
  if (row.theory_crossing) row.verdict = interval.contains(theory) ? "agrees" : "differs";
  return row;
}

std::vector<TermRow> crossings(const std::vector<Layer>& layers) {
  std::map<std::pair<std::string, std::string>, std::map<double, Layer>> groups;
  for (const Layer& layer : layers) {
    const std::string setting = setting_of(*layer.block.row, Axis::n);
    if (!setting.empty()) groups[{layer.block.row->variant, setting}][layer.core.x] = layer;
  }
  std::vector<TermRow> found;
  for (const auto& [key, by_n] : groups) {
    if (by_n.size() < 2) continue;
    std::vector<Layer> ascending;
    for (const auto& [n, layer] : by_n) ascending.push_back(layer);
    found.push_back(crossing_of(ascending));
  }
  return found;
}

/// Where equal FLOPs take equally long once each term runs at its own rate; from the fits along n.
void fill_theory_at_rates(TermRow& crossing, const std::vector<TermRow>& rows) {
  Number core_rate, projections_rate;
  const std::string core_setting = without_fields(crossing.setting, {"scope", "dm"});
  for (const TermRow& row : rows) {
    if (row.variant != crossing.variant || row.axis != crossing.axis) continue;
    if (row.term == kCore && row.setting == core_setting) core_rate = row.flops_per_s;
    if (row.term == kProjections && row.setting == crossing.setting) projections_rate = row.flops_per_s;
  }
  if (!crossing.theory_crossing || !core_rate || !projections_rate) return;
  crossing.theory_crossing_at_rates = *crossing.theory_crossing * *core_rate / *projections_rate;
}

}  // namespace

std::vector<TermRow> find_terms(const std::vector<ResultRow>& rows, const SampleIndex& samples,
                                const LevelsByThreads& levels) {
  const std::vector<Layer> layers = pair_layers(rows, samples);
  if (layers.empty()) return {};
  const std::vector<ResultRow> cores = core_rows(layers);
  const Projections projections = projections_of(layers);
  std::vector<ResultRow> clear;
  for (size_t i = 0; i < projections.rows.size(); ++i) {
    if (projections.unclear[i].empty()) clear.push_back(projections.rows[i]);
  }
  std::vector<TermRow> terms;
  const std::vector<Axis> axes(std::begin(kTermAxes), std::end(kTermAxes));
  for (const Series& series : group_series(cores, samples, levels, axes)) {
    terms.push_back(along_axis(series, kCore, series.variant));
  }
  for (const Series& series : group_series(projections.rows, {}, {}, axes)) {
    terms.push_back(projections_along_axis(series, projections));
  }
  for (const auto& products : {along_products(cores, samples, kCore, "h n^2 d", 4),
                               along_products(clear, {}, kProjections, "n d d_o", 8)}) {
    terms.insert(terms.end(), products.begin(), products.end());
  }
  for (TermRow& row : crossings(layers)) {
    fill_theory_at_rates(row, terms);
    terms.push_back(row);
  }
  const auto key = [](const TermRow& row) { return std::tie(row.variant, row.term, row.axis, row.setting); };
  std::stable_sort(terms.begin(), terms.end(),
                   [&](const TermRow& a, const TermRow& b) { return key(a) < key(b); });
  return terms;
}

}  // namespace attn
