#pragma once
// What a (point, variant) will need, before anything is allocated.

#include <optional>

#include "harness/campaign/plan.h"
#include "harness/measure/roof_limits.h"
#include "harness/variant.h"

namespace attn {

/// Host memory a point needs before any variant: inputs, and the oracle's float64 copies, results and bounds.
size_t shared_bytes(const Problem& problem);
/// What a variant adds: operands and planned workspace; for a backward also that of its own forward,
/// whichever is larger, and the copies of outputs that are compared.
size_t variant_bytes(const Variant& variant, const Problem& problem, int threads);
/// Least seconds of one call at the roofs: declared FLOPs, exponentials or bytes, whichever takes longest,
/// with operands and workspace held. Nothing for a GPU: the roofs are the CPU's.
std::optional<double> seconds_at_roof(const Variant& variant, const Problem& problem, int threads,
                                      const RoofLimits& roofs);

/// What a row will take.
struct RowForecast {
  std::string refusal;           ///< why it will not run: skipped or unsupported; the rest is then empty
  size_t bytes = 0;              ///< of memory, the point's share included
  std::optional<double> call_s;  ///< seconds_at_roof
  double least_s = 0;            ///< of all calls, where every call runs at its roof
  double most_s = 0;             ///< the same where the whole budget is used
};
RowForecast forecast_row(const PlanPoint& point, const Variant& variant, double budget_s,
                         const RoofLimits& roofs);

}  // namespace attn
