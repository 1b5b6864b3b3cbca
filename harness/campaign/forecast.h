#pragma once
// What a (point, variant) will need, before anything is allocated.

#include <optional>
#include <string>

#include "harness/campaign/plan.h"
#include "harness/forecast/bytes.h"
#include "harness/forecast/rates.h"

namespace attn {

/// What a row will take, over all the processes that measure it.
struct RowForecast {
  std::string refusal;    ///< why it will not run: skipped, unsupported; the rest is then empty
  size_t bytes = 0;       ///< of memory, the point's share included
  TimeForecast call;      ///< one call
  double least_s = 0;     ///< of all calls, where the interval is narrow after the fewest samples
  double expected_s = 0;  ///< after the usual number of samples
  double most_s = 0;      ///< where the whole budget is used
};
RowForecast forecast_row(const PlanPoint& point, const Variant& variant, double budget_s, int processes,
                         const Rates& rates, LaunchMode launch = LaunchMode::stream);

/// Seconds a row is expected to take, with its part of what the point takes beside its rows.
double expected_row_s(const PlanPoint& point, const Variant& variant, const CampaignOptions& options,
                      const Rates& rates);

/// Seconds one process takes beside the rows of its point: worker, inputs and oracle. Nominal, like the
/// shares of a plan.
double shared_s(const PlanPoint& point);

}  // namespace attn
