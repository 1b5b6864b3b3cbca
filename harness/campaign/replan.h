#pragma once
// The plan of a campaign that was measured before, from its folder: the same points and variants again.

#include <string>
#include <vector>

#include "harness/campaign/plan.h"

namespace attn {

struct Replan {
  Plan plan;
  CampaignOptions options;
  std::vector<std::string> missing;  ///< variants of the folder that this build lacks
};

/// From plan.csv and campaign.json; points that were no valid problem are left out. `budget` replaces the
/// folder's where it is not empty. Throws UsageError where a file is missing or damaged, or nothing is left
/// to measure.
Replan read_plan(const std::string& dir, const std::string& budget = "");

}  // namespace attn
