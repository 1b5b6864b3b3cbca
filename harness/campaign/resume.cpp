#include "harness/campaign/resume.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "harness/problem/error.h"
#include "harness/results/append_file.h"

namespace attn {

std::map<RowKey, Status> finished_rows(const std::string& folder) {
  std::map<RowKey, Status> rows;
  const std::string path = folder + "/results.csv";
  if (!std::filesystem::exists(path)) return rows;
  for (const ResultRow& row : read_results(path)) {
    if (!rows.emplace(RowKey(row.point, row.variant), row.status).second) {
      throw UsageError(fmt::format("{} has two rows for {} at {}: remove one", path, row.variant, row.point));
    }
  }
  return rows;
}

size_t drop_unfinished_samples(const std::string& folder, const std::map<RowKey, Status>& finished) {
  const std::string path = folder + "/samples.csv";
  if (!std::filesystem::exists(path)) return 0;
  std::string kept = samples_header();
  size_t dropped = 0;
  for (const SampleRow& sample : read_samples(path)) {
    if (finished.count({sample.point, sample.variant})) {
      kept += to_csv(sample);
    } else {
      ++dropped;
    }
  }
  if (dropped > 0) replace_file(path, kept);
  return dropped;
}

void claim_folder(const std::string& folder, const std::string& configuration_json) {
  const std::string path = folder + "/campaign.json";
  const auto wanted = nlohmann::json::parse(configuration_json);
  if (!std::filesystem::exists(path)) return replace_file(path, wanted.dump(2) + "\n");
  std::ifstream file(path);
  const auto found = nlohmann::json::parse(file, nullptr, false);
  if (found.is_discarded() || !found.is_object()) throw UsageError(path + " is damaged: give another --out");
  if (found == wanted) return;
  for (const auto& [key, value] : wanted.items()) {
    if (key == "id" || found.value(key, nlohmann::json()) == value) continue;
    const std::string text = value.dump(), other = found.value(key, nlohmann::json()).dump();
    const bool brief = text.size() + other.size() < 200;
    throw UsageError(fmt::format("{} holds another campaign: its {} {}; give another --out", folder, key,
                                 brief ? fmt::format("is {}, not {}", other, text) : "differs"));
  }
  throw UsageError(folder + " holds a share of this campaign, or several machines: give another --out");
}

}  // namespace attn
