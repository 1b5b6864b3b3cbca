#include "harness/campaign/replan.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "harness/campaign/axes.h"
#include "harness/campaign/plan_file.h"
#include "harness/problem/error.h"
#include "harness/problem/text.h"
#include "harness/registry.h"

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
  settings["launch"] = {json.value("launch", "stream")};
  settings["budget"] = {budget.empty() ? json.value("budget_s", nlohmann::json(2)).dump() : budget};
  settings["processes"] = {json.value("processes", nlohmann::json(1)).dump()};
  settings["target"] = {nlohmann::json(100 * json.value("target", 0.02)).dump()};
  if (!find_linked(settings["baseline"].front())) settings.erase("baseline");
  return settings;
}

PlanPoint point_of(const PlanLine& line, const std::string& path, std::set<std::string>& missing) {
  PlanPoint point;
  point.id = line.id;
  point.threads = static_cast<int>(parse_number(line.threads, path + ": threads of point " + line.id));
  point.problem = Problem::parse(line.problem);
  point.text = point.problem.text();
  point.d_model = point.problem.model_width();
  for (const std::string& name : line.variants) {
    if (const Variant* variant = find_linked(name)) {
      point.variants.push_back(variant);
    } else {
      missing.insert(name);
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
  const std::string path = folder / "plan.csv";
  for (const PlanLine& line : read_plan_lines(path)) {
    if (line.problem.find(",d_model=") != std::string::npos) continue;  // was skipped: no such problem
    PlanPoint point = point_of(line, path, missing);
    if (!point.variants.empty()) again.plan.points.push_back(std::move(point));
  }
  again.missing.assign(missing.begin(), missing.end());
  if (again.plan.points.empty()) throw UsageError(dir + ": this build has none of the campaign's variants");
  return again;
}

}  // namespace attn
