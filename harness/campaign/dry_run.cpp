// The plan as a table: what each row would need, without running it.

#include <fmt/format.h>

#include "harness/campaign/campaign.h"
#include "harness/campaign/forecast.h"
#include "harness/campaign/progress.h"
#include "harness/measure/roofs.h"

namespace attn {
namespace {

struct Totals {
  double low_s = 0, high_s = 0;
  size_t runs = 0, refused = 0;
};

void print_row(const PlanPoint& point, const Variant& variant, const CampaignOptions& options,
               const Roofs& roofs, Totals& totals) {
  const auto line = [&](const std::string& memory, const std::string& time, const std::string& note) {
    fmt::print("{:<24} {:>10} {:>12}  {}{}\n", variant.info().name, memory, time, point.text, note);
  };
  const RowForecast row = forecast_row(point, variant, options.budget_s, roofs.limits(point.threads));
  const bool too_large = row.bytes > options.memory_limit_bytes;
  ++(too_large || !row.refusal.empty() ? totals.refused : totals.runs);
  if (!row.refusal.empty()) return line("-", "-", "  " + row.refusal);
  line(human_bytes(static_cast<double>(row.bytes)), row.call_s ? human_time(*row.call_s) : "-",
       too_large ? "  out of memory" : "");
  if (too_large) return;
  totals.low_s += row.least_s;
  totals.high_s += row.most_s;
}

}  // namespace

void print_plan(const Plan& plan, const CampaignOptions& options) {
  std::vector<int> threads;
  for (const PlanPoint& point : plan.points) threads.push_back(point.threads);
  const Roofs roofs = measure_roofs(threads);
  fmt::print("{:<24} {:>10} {:>12}  problem\n", "variant", "memory", "roof time");
  Totals totals;
  for (const PlanPoint& point : plan.points) {
    for (const Variant* variant : point.variants) print_row(point, *variant, options, roofs, totals);
  }
  fmt::print(
      "{} points, {} rows to measure, {} refused; memory limit {}; timing takes from {} (every variant at "
      "its roof) "
      "to {} (every budget used), checks and oracle come on top\n",
      plan.points.size(), totals.runs, totals.refused,
      human_bytes(static_cast<double>(options.memory_limit_bytes)), human_time(totals.low_s),
      human_time(totals.high_s));
}

}  // namespace attn
