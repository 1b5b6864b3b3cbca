#include "harness/analysis/series.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <regex>
#include <set>
#include <string_view>

#include "harness/analysis/interval.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

double axis_value(const ResultRow& row, Axis axis) {
  if (axis == Axis::n) return static_cast<double>(row.seq_q);
  if (axis == Axis::d) return static_cast<double>(row.d_head);
  if (axis == Axis::density) return row.density;
  if (axis == Axis::d_o) return static_cast<double>(row.d_model);
  return static_cast<double>(row.heads_q);
}

/// The mask's text with a star for every number; empty where it has none, or names a file.
std::string mask_family(const std::string& mask) {
  if (mask.find("blocks:") != std::string::npos) return "";
  const std::string family = std::regex_replace(mask, std::regex("[0-9]+"), "*");
  return family == mask ? "" : family;
}

bool on_axis(const ResultRow& row, Axis axis) {
  if (axis == Axis::density) return row.density > 0 && !mask_family(row.mask).empty();
  if (axis == Axis::d_o) return row.scope == "block";
  if (row.heads_kv == 0 || row.heads_q % row.heads_kv != 0) return false;
  if (axis == Axis::n) return row.seq_q == row.seq_kv;
  if (axis == Axis::h_fixed_head) return true;
  return row.d_head == row.d_value;
}

/// Fields of the problem's text that change along the axis.
std::set<std::string_view> moving_fields(Axis axis) {
  switch (axis) {
    case Axis::n:
      return {"nq", "nk"};
    case Axis::d:
      return {"d", "dv", "dm"};
    case Axis::h_fixed_width:
      return {"hq", "hk", "d", "dv"};
    case Axis::h_fixed_head:
      return {"hq", "hk", "dm"};
    case Axis::density:
      return {"mask"};
    case Axis::d_o:
      return {"dm"};
  }
  return {};
}

/// What the moving fields keep constant together.
std::string held_together(const ResultRow& row, Axis axis) {
  const std::string group =
      row.heads_kv == row.heads_q ? "" : fmt::format(",hq/hk={}", row.heads_q / row.heads_kv);
  if (axis == Axis::h_fixed_width) return fmt::format(",hq*d={}{}", row.heads_q * row.d_head, group);
  if (axis == Axis::h_fixed_head) return group;
  if (axis == Axis::density) return ",mask=" + mask_family(row.mask);
  return "";
}

/// A block whose width is not hq * d keeps that width; elsewhere dm only restates it.
bool own_width(const ResultRow& row) {
  return row.scope == "block" && row.d_model != row.heads_q * row.d_head;
}

double log_sd_of_median(const ResultRow& row) {
  if (!row.time_s_ci_low || !row.time_s_ci_high || *row.time_s_ci_low <= 0) return 0;
  return (std::log(*row.time_s_ci_high) - std::log(*row.time_s_ci_low)) / (2 * 1.96);
}

}  // namespace

std::string to_text(Axis axis) {
  switch (axis) {
    case Axis::n:
      return "n";
    case Axis::d:
      return "d";
    case Axis::h_fixed_width:
      return "h_fixed_width";
    case Axis::h_fixed_head:
      return "h_fixed_head";
    case Axis::density:
      return "density";
    case Axis::d_o:
      return "d_o";
  }
  return "";
}

void Samples::add(int64_t process, int64_t round, double time_s) {
  const auto earlier = [](const Round& known, const std::pair<int64_t, int64_t>& place) {
    return std::pair(known.process, known.number) < place;
  };
  auto place = std::lower_bound(rounds_.begin(), rounds_.end(), std::pair(process, round), earlier);
  if (place == rounds_.end() || place->process != process || place->number != round) {
    place = rounds_.insert(place, {process, round, {}});
  }
  place->times_s.push_back(time_s);
}

std::vector<double> Samples::all() const {
  std::vector<double> times;
  for (const Round& round : rounds_) times.insert(times.end(), round.times_s.begin(), round.times_s.end());
  return times;
}

void Samples::resample(Rounds process, std::vector<double>& drawn, std::mt19937_64& random) {
  if (process.size() >= kRoundsToResample) {
    std::uniform_int_distribution<size_t> pick(0, process.size() - 1);
    for (size_t k = 0; k < process.size(); ++k) {
      const std::vector<double>& times = process[pick(random)].times_s;
      drawn.insert(drawn.end(), times.begin(), times.end());
    }
    return;
  }
  std::vector<double> times;
  for (const Round& round : process) times.insert(times.end(), round.times_s.begin(), round.times_s.end());
  std::uniform_int_distribution<size_t> pick(0, times.size() - 1);
  for (size_t k = 0; k < times.size(); ++k) drawn.push_back(times[pick(random)]);
}

double Samples::resampled_median(std::mt19937_64& random) const {
  std::vector<double> drawn;
  for (auto first = rounds_.begin(); first != rounds_.end();) {
    const auto is_of_another = [&](const Round& round) { return round.process != first->process; };
    const auto last = std::find_if(first, rounds_.end(), is_of_another);
    resample({first, last}, drawn, random);
    first = last;
  }
  return median(std::move(drawn));
}

SampleIndex index_samples(const std::vector<SampleRow>& rows) {
  SampleIndex index;
  for (const SampleRow& row : rows) {
    if (!row.hot()) index[{row.point, row.variant}].add(row.process, row.round, row.time_s);
  }
  return index;
}

Point point_at(double x, const ResultRow& row, const SampleIndex& samples) {
  const auto raw = samples.find({row.point, row.variant});
  return {x, &row, raw == samples.end() ? nullptr : &raw->second};
}

double resampled_time_s(const Point& point, std::mt19937_64& random) {
  if (point.samples) return point.samples->resampled_median(random);
  std::normal_distribution<double> normal;
  return *point.row->time_s_median * std::exp(log_sd_of_median(*point.row) * normal(random));
}

std::string setting_of(const ResultRow& row, Axis axis) {
  if (!on_axis(row, axis)) return "";
  std::set<std::string_view> moving = moving_fields(axis);
  if (own_width(row) && axis != Axis::d_o) moving.erase("dm");
  std::string setting;
  for (const std::string_view field : split(row.problem, ',')) {
    if (moving.contains(field.substr(0, field.find('=')))) continue;
    setting += setting.empty() ? "" : ",";
    setting += field;
  }
  const std::string machine = row.machine.empty() ? "" : ",machine=" + row.machine;
  return fmt::format("{}{},threads={}{}", setting, held_together(row, axis), row.threads, machine);
}

std::vector<Series> group_series(const std::vector<ResultRow>& rows, const SampleIndex& samples,
                                 const LevelsByThreads& levels, const std::vector<Axis>& axes) {
  std::vector<Series> found;
  for (const Axis axis : axes) {
    std::map<std::pair<std::string, std::string>, std::map<double, Point>>
        groups;  // a repeated point: the last row
    for (const ResultRow& row : rows) {
      const std::string setting = setting_of(row, axis);
      if (setting.empty()) continue;
      const double x = axis_value(row, axis);
      groups[{setting, row.variant}][x] = point_at(x, row, samples);
    }
    for (const auto& [key, points] : groups) {
      Series series{key.second, axis, key.first, {}, {}};
      for (const auto& [x, point] : points) series.points.push_back(point);
      const auto known = levels.find(series.points.front().row->threads);
      const bool on_gpu = series.points.front().row->device == "cuda";  // the levels are the CPU's
      if (known != levels.end() && !on_gpu) series.levels = known->second;
      const bool any_ok = std::any_of(series.points.begin(), series.points.end(),
                                      [](const Point& point) { return point.row->status == Status::ok; });
      if (any_ok && series.points.size() >= kSweepPoints) found.push_back(std::move(series));
    }
  }
  return found;
}

}  // namespace attn
