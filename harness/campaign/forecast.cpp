#include "harness/campaign/forecast.h"

#include <algorithm>

#include "harness/run/binding.h"
#include "harness/run/operands.h"

namespace attn {
namespace {

/// Timed samples of a row that is neither short nor long: enough for an interval, rarely more than twice
/// that.
constexpr double kUsualSamples = 12;
/// Checks, memory pass, warm-up and verification run the variant this often beside the samples.
constexpr double kOtherRuns = 6;

size_t elements_of(const std::vector<Operand>& operands) {
  size_t total = 0;
  for (const Operand& operand : operands) total += static_cast<size_t>(operand.elements());
  return total;
}

size_t result_elements(const Problem& problem) {
  size_t total = elements_of(forward_results(problem));
  if (problem.pass == Pass::bwd) total += elements_of(gradients(problem));
  return total;
}

}  // namespace

size_t shared_bytes(const Problem& problem) {
  return (4 + 8) * elements_of(input_operands(problem)) + 2 * 8 * result_elements(problem);
}

size_t variant_bytes(const Variant& variant, const Problem& problem, int threads) {
  size_t workspace = planned_workspace_bytes(variant, problem, threads);
  if (problem.pass == Pass::bwd) {
    workspace = std::max(workspace, planned_workspace_bytes(variant, problem.with(Pass::fwd), threads));
  }
  return operand_bytes(problem) + workspace + 2 * 4 * result_elements(problem);
}

std::optional<double> seconds_at_roof(const Variant& variant, const Problem& problem, int threads,
                                      const RoofLimits& roofs) {
  if (variant.info().device != Device::cpu) return std::nullopt;
  const Cost cost = cost_of(variant, problem);
  const size_t held = operand_bytes(problem) + planned_workspace_bytes(variant, problem, threads);
  const auto limit =
      limit_of({cost.flops_executed, cost.exps, cost.bytes_moved, static_cast<double>(held)}, roofs);
  if (!limit) return std::nullopt;
  return limit->time_s;
}

RowForecast forecast_row(const PlanPoint& point, const Variant& variant, double budget_s,
                         const RoofLimits& roofs) {
  RowForecast row;
  if (!point.skipped.empty()) {
    row.refusal = "skipped: " + point.skipped;
  } else if (const Support support = support_of(variant, point.problem); !support) {
    row.refusal = "unsupported: " + support.reason;
  }
  if (!row.refusal.empty()) return row;
  row.bytes = shared_bytes(point.problem) + variant_bytes(variant, point.problem, point.threads);
  row.call_s = seconds_at_roof(variant, point.problem, point.threads, roofs);
  const double call_s = row.call_s.value_or(0);
  row.least_s = std::min(budget_s, kUsualSamples * call_s) + kOtherRuns * call_s;
  row.most_s = budget_s + kOtherRuns * call_s;
  return row;
}

}  // namespace attn
