// The plan as a table: what each row would need, without running it.

#include <fmt/format.h>

#include <algorithm>

#include "harness/campaign/campaign.h"
#include "harness/campaign/forecast.h"
#include "harness/campaign/progress.h"
#include "harness/measure/roofs.h"
#include "harness/run/binding.h"

namespace attn {
namespace {

/// Timed samples of a row that is neither short nor long: enough for an interval, rarely more than twice
/// that.
constexpr double kUsualSamples = 12;
/// Check, memory pass, warm-up and verification run the variant this often beside the samples.
constexpr double kOtherRuns = 5;

struct Totals {
  double low_s = 0, high_s = 0;
  size_t runs = 0, refused = 0;
};

void print_row(const PlanPoint& point, const Variant& variant, const CampaignOptions& options,
               const Roofs& roofs, Totals& totals) {
  const auto line = [&](const std::string& memory, const std::string& time, const std::string& note) {
    fmt::print("{:<24} {:>10} {:>12}  {}{}\n", variant.info().name, memory, time, point.text, note);
  };
  std::string refusal = point.skipped.empty() ? "" : "skipped: " + point.skipped;
  if (refusal.empty()) {
    if (const Support support = support_of(variant, point.problem); !support)
      refusal = "unsupported: " + support.reason;
  }
  if (!refusal.empty()) {
    ++totals.refused;
    return line("-", "-", "  " + refusal);
  }
  const size_t bytes = shared_bytes(point.problem) + variant_bytes(variant, point.problem, point.threads);
  const bool too_large = bytes > options.memory_limit_bytes;
  const auto least_s = seconds_at_roof(variant, point.problem, point.threads, roofs.limits(point.threads));
  const double call_s = least_s.value_or(0);
  line(human_bytes(static_cast<double>(bytes)), least_s ? human_time(call_s) : "-",
       too_large ? "  out of memory" : "");
  ++(too_large ? totals.refused : totals.runs);
  if (too_large) return;
  totals.low_s += std::min(options.budget_s, kUsualSamples * call_s) + kOtherRuns * call_s;
  totals.high_s += options.budget_s + kOtherRuns * call_s;
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
