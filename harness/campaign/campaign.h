#pragma once
// A campaign from plan to files: plan.csv, campaign.json and environment.json first, then results.csv and
// samples.csv row by row. The same campaign on the same folder goes on where it stood.

#include <string>

#include "harness/campaign/plan.h"

namespace attn {

struct CampaignFolder {
  std::string path;
  std::string command_line;      ///< for environment.json
  std::string campaign_command;  ///< measures the whole plan: command_line without share and folder
  std::string share;             ///< what of the plan belongs here, as text; empty: everything
};

/// "c" and a hash over the plan, the options that decide a row, the build and the CPU.
std::string campaign_id(const Plan& plan, const CampaignOptions& options);
/// Measures what the folder lacks of `share`, the part of the plan that belongs here. Returns 0, or 128 + the
/// signal that stopped it. Throws UsageError where the folder belongs to another campaign, share or process.
int run_campaign(const Plan& plan, const Plan& share, const CampaignOptions& options,
                 const CampaignFolder& folder);
/// The plan as a table with predicted memory and time at the measured roofs; runs no variant.
void print_plan(const Plan& plan, const CampaignOptions& options);

}  // namespace attn
