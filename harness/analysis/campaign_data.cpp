#include "harness/analysis/campaign_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "harness/problem/error.h"

namespace attn {
namespace {

using nlohmann::json;

json read_json(const std::filesystem::path& path) {
  std::ifstream file(path);
  if (!file) return nullptr;
  json content = json::parse(file, nullptr, false);
  if (!content.is_object()) throw UsageError(fmt::format("{} is no JSON object", path.string()));
  return content;
}

std::vector<CacheLevel> levels_of(const json& by_name) {
  std::vector<CacheLevel> levels;
  for (const auto& [name, bytes] : by_name.items()) {
    if (bytes.is_number()) levels.push_back({name, bytes.get<double>()});
  }
  std::sort(levels.begin(), levels.end(),
            [](const CacheLevel& a, const CacheLevel& b) { return a.bytes < b.bytes; });
  return levels;
}

}  // namespace

CampaignData read_campaign(const std::string& dir) {
  const std::filesystem::path folder(dir);
  if (!std::filesystem::exists(folder / "results.csv")) {
    throw UsageError(fmt::format("{}: no results.csv here; expected the folder of a campaign", dir));
  }
  CampaignData data;
  data.dir = dir;
  data.rows = read_results(folder / "results.csv");
  if (std::filesystem::exists(folder / "samples.csv")) {
    data.samples = index_samples(read_samples(folder / "samples.csv"));
  }
  data.environment = read_json(folder / "environment.json");
  data.configuration = read_json(folder / "campaign.json");
  return data;
}

LevelsByThreads memory_levels(const json& environment) {
  LevelsByThreads levels;
  const json::json_pointer place("/roofs/by_threads");
  if (!environment.is_object() || !environment.contains(place) || !environment[place].is_array())
    return levels;
  for (const json& entry : environment[place]) {
    if (!entry.is_object() || !entry.contains("threads") || !entry["threads"].is_number()) continue;
    levels[entry["threads"].get<int64_t>()] = levels_of(entry.value("level_bytes", json::object()));
  }
  return levels;
}

}  // namespace attn
