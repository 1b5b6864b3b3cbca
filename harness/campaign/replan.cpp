#include "harness/campaign/replan.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/campaign/axes.h"
#include "harness/problem/error.h"
#include "harness/problem/text.h"
#include "harness/registry.h"
#include "harness/results/csv.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

/// Null where this build lacks it.
const Variant* find_linked(std::string_view name) {
  const auto& variants = all_variants();
  const auto found = std::find_if(variants.begin(), variants.end(),
                                  [&](const Variant* variant) { return variant->info().name == name; });
  return found == variants.end() ? nullptr : *found;
}

Settings read_settings(const fs::path& path, const std::string& budget) {
  std::ifstream file(path);
  const auto json = nlohmann::json::parse(file, nullptr, false);
  if (!json.is_object()) throw UsageError(fmt::format("{} is missing or damaged", path.string()));
  Settings settings;
  for (const char* key : {"baseline", "fill", "seed"}) {
    if (!json.contains(key)) throw UsageError(fmt::format("{} has no {}", path.string(), key));
    const auto& value = json[key];
    settings[key] = {value.is_string() ? value.get<std::string>() : value.dump()};
  }
  settings["budget"] = {budget.empty() ? json.value("budget_s", nlohmann::json(2)).dump() : budget};
  if (!find_linked(settings["baseline"].front())) settings.erase("baseline");
  return settings;
}

PlanPoint point_of(const std::vector<std::string>& fields, const std::string& where,
                   std::set<std::string>& missing) {
  PlanPoint point;
  point.id = fields[0];
  point.threads = static_cast<int>(parse_number(fields[1], where + ": threads"));
  point.problem = Problem::parse(fields[2]);
  point.text = point.problem.text();
  point.d_model = point.problem.model_width();
  for (const std::string_view name : split(fields[3], ' ')) {
    if (const Variant* variant = find_linked(name)) {
      point.variants.push_back(variant);
    } else {
      missing.emplace(name);
    }
  }
  return point;
}

}  // namespace

Replan read_plan(const std::string& dir, const std::string& budget) {
  const fs::path folder(dir);
  if (!fs::exists(folder / "plan.csv")) {
    throw UsageError(fmt::format("{}: no plan.csv here; expected the folder of a campaign", dir));
  }
  Replan again;
  again.options = parse_campaign(read_settings(folder / "campaign.json", budget));
  std::set<std::string> missing;
  const CompleteLines file = read_complete_lines(folder / "plan.csv");
  for (size_t k = 1; k < file.lines.size(); ++k) {
    const std::string where = fmt::format("{}:{}", (folder / "plan.csv").string(), k + 1);
    const std::vector<std::string> fields = split_csv_record(file.lines[k], where);
    if (fields.size() != 4) throw UsageError(where + ": expected point, threads, problem, variants");
    if (fields[2].find(",d_model=") != std::string::npos) continue;  // was skipped: no such problem
    PlanPoint point = point_of(fields, where, missing);
    if (!point.variants.empty()) again.plan.points.push_back(std::move(point));
  }
  again.missing.assign(missing.begin(), missing.end());
  if (again.plan.points.empty()) throw UsageError(dir + ": this build has none of the campaign's variants");
  return again;
}

}  // namespace attn
