#pragma once
// One folder of a campaign as `merge` reads it: what was asked, where it was measured, rows and samples.

#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/campaign/resume.h"
#include "harness/results/schema.h"

namespace attn {

struct CampaignPart {
  std::string folder;
  nlohmann::json campaign;     ///< campaign.json
  nlohmann::json environment;  ///< environment.json
  std::string machine;         ///< name among several; empty otherwise

  /// Throws UsageError where a file is missing or damaged.
  explicit CampaignPart(const std::string& path);

  std::vector<ResultRow> rows() const;  ///< none yet where the file is missing
  std::map<RowKey, std::vector<SampleRow>> samples() const;
  /// What rows of one figure must share: CPU, GPU, compiler, commit, libraries.
  nlohmann::json kind() const;
  /// The first field of kind() in which the other one differs.
  std::string difference(const CampaignPart& other) const;
  /// "AMD EPYC x2 at cbb49f4"; without what would end a field of a setting.
  std::string machine_name() const;
  /// The command that measures the whole plan.
  std::string campaign_command() const;
};

/// environment.json of a folder that joins the parts: that of the first, with the sessions of all; where
/// machines differ also each one's own, by name.
nlohmann::json join_environments(const std::vector<CampaignPart>& parts);

}  // namespace attn
