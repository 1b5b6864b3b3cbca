// The plan as a table: what each row would need, without running it.

#include <fmt/format.h>

#include "harness/campaign/campaign.h"
#include "harness/campaign/forecast.h"
#include "harness/campaign/probe.h"
#include "harness/campaign/progress.h"

namespace attn {
namespace {

struct Totals {
  double least_s = 0, expected_s = 0, most_s = 0;
  size_t runs = 0, refused = 0, at_roof = 0;
};

void print_line(const PlanPoint& point, const Variant& variant, const std::string& memory,
                const std::string& call, const std::string& row, const std::string& note) {
  fmt::print("{:<24} {:>10} {:>12} {:>10}  {}{}\n", variant.info().name, memory, call, row, point.text, note);
}

/// Whether the row would run.
bool print_row(const PlanPoint& point, const Variant& variant, const CampaignOptions& options,
               const Rates& rates, Totals& totals) {
  const RowForecast row =
      forecast_row(point, variant, options.budget_s, options.processes, rates, options.launch);
  if (!row.refusal.empty()) {
    ++totals.refused;
    print_line(point, variant, "-", "-", "-", "  " + row.refusal);
    return false;
  }
  const bool fits = row.bytes <= options.memory_limit_bytes;
  const std::string mark = row.call.measured ? "" : "*";
  print_line(point, variant, human_bytes(static_cast<double>(row.bytes)),
             row.call.time_s ? human_time(*row.call.time_s) + mark : "-",
             fits ? human_time(expected_row_s(point, variant, options, rates)) : "-",
             fits ? "" : "  out of memory");
  ++(fits ? totals.runs : totals.refused);
  if (!fits) return false;
  totals.at_roof += !row.call.measured;
  totals.least_s += row.least_s;
  totals.expected_s += row.expected_s;
  totals.most_s += row.most_s;
  return true;
}

}  // namespace

void print_plan(const Plan& plan, const CampaignOptions& options) {
  std::vector<int> threads;
  for (const PlanPoint& point : plan.points) threads.push_back(point.threads);
  Rates rates(measure_roofs(threads, plan.uses_gpu()));
  const std::string source = learn_from(options.rates, plan, options, rates);
  fmt::print("{:<24} {:>10} {:>12} {:>10}  problem\n", "variant", "memory", "one call", "row");
  Totals totals;
  double points_s = 0;
  for (const PlanPoint& point : plan.points) {
    bool runs = false;
    for (const Variant* variant : point.variants) runs |= print_row(point, *variant, options, rates, totals);
    if (runs) points_s += options.processes * shared_s(point);
  }
  fmt::print("{} points, {} rows to measure, {} refused; memory limit {}\n", plan.points.size(), totals.runs,
             totals.refused, human_bytes(static_cast<double>(options.memory_limit_bytes)));
  fmt::print("{}{}\n", source,
             totals.at_roof
                 ? fmt::format("; * {} at the roof: a least time, nothing was measured", totals.at_roof)
                 : "");
  fmt::print("ETA {}: from {}, where every interval is narrow at once, to {}, where every budget is used\n",
             human_time(points_s + totals.expected_s), human_time(points_s + totals.least_s),
             human_time(points_s + totals.most_s));
}

}  // namespace attn
