#pragma once
// A campaign's folder, read: rows, raw samples, and where and how they were measured.

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "harness/analysis/series.h"

namespace attn {

struct CampaignData {
  std::string dir;
  std::vector<ResultRow> rows;
  SampleIndex samples;           ///< empty where the folder has no samples.csv
  nlohmann::json environment;    ///< environment.json; null where absent
  nlohmann::json configuration;  ///< campaign.json; null where absent
};

/// Throws UsageError where there is no campaign, or a file is damaged.
CampaignData read_campaign(const std::string& dir);

/// From the roofs of environment.json; the last level is memory itself.
LevelsByThreads memory_levels(const nlohmann::json& environment);

}  // namespace attn
