#pragma once
// Where rates come from before a campaign has measured anything: an earlier campaign's folder, or a probe.

#include <string>

#include "harness/campaign/plan.h"
#include "harness/forecast/rates.h"

namespace attn {

/// Learns what `source` (CampaignOptions::rates) offers for the plan. A folder: every row with a time.
/// `probe`: runs each variant for some milliseconds at one problem of each setting, in workers. `roof`:
/// nothing. Returns where the rates come from, for a person. May throw Interrupted.
std::string learn_from(const std::string& source, const Plan& plan, const CampaignOptions& options,
                       Rates& rates);

/// Throws UsageError unless it is `probe`, `roof` or a folder with a results.csv and roofs.
void check_rates_source(const std::string& source);

}  // namespace attn
