#include "harness/campaign/part.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "harness/problem/error.h"

namespace attn {
namespace {

using nlohmann::json;

json read_object(const std::string& path) {
  std::ifstream file(path);
  if (!file) throw UsageError(fmt::format("cannot read {}: expected the folder of a campaign", path));
  json object = json::parse(file, nullptr, false);
  if (!object.is_object()) throw UsageError(path + " is damaged");
  return object;
}

std::string text_of(const json& object, const char* key) {
  const json value = object.value(key, json());
  return value.is_string() ? value.get<std::string>() : "";
}

json sessions_of(const CampaignPart& part) { return part.environment.value("sessions", json::array()); }

}  // namespace

CampaignPart::CampaignPart(const std::string& path)
    : folder(path),
      campaign(read_object(path + "/campaign.json")),
      environment(read_object(path + "/environment.json")) {}

std::vector<ResultRow> CampaignPart::rows() const {
  const std::string path = folder + "/results.csv";
  return std::filesystem::exists(path) ? read_results(path) : std::vector<ResultRow>{};
}

std::map<RowKey, std::vector<SampleRow>> CampaignPart::samples() const {
  std::map<RowKey, std::vector<SampleRow>> by_row;
  const std::string path = folder + "/samples.csv";
  if (!std::filesystem::exists(path)) return by_row;
  for (SampleRow& sample : read_samples(path)) by_row[{sample.point, sample.variant}].push_back(sample);
  return by_row;
}

json CampaignPart::kind() const {
  json kind;
  for (const char* key : {"cpu", "gpu", "build", "libraries"}) kind[key] = environment.value(key, json());
  if (kind["cpu"].is_object()) kind["cpu"].erase("clock_hz");  // of the moment
  return kind;
}

std::string CampaignPart::difference(const CampaignPart& other) const {
  const json mine = kind(), theirs = other.kind();
  for (const auto& [key, value] : mine.items()) {
    if (value == theirs[key]) continue;
    if (value.is_object() && theirs[key].is_object()) {
      for (const auto& [field, content] : value.items()) {
        if (theirs[key].value(field, json()) != content) return fmt::format("{} {}", key, field);
      }
    }
    return key;
  }
  return "";
}

std::string CampaignPart::machine_name() const {
  const json cpu = environment.value("cpu", json::object()), gpu = environment.value("gpu", json());
  std::string name = fmt::format("{} x{}", text_of(cpu, "model"), cpu.value("usable_threads", 0));
  if (gpu.is_object()) name += " + " + text_of(gpu, "name");
  const std::string commit = text_of(environment.value("build", json::object()), "commit");
  if (!commit.empty()) name += " at " + commit.substr(0, 7);
  std::replace_if(
      name.begin(), name.end(), [](char c) { return c == ',' || c == '='; }, ' ');
  return name;
}

std::string CampaignPart::campaign_command() const {
  const json sessions = sessions_of(*this);
  const std::string command = sessions.empty() ? "" : text_of(sessions.front(), "campaign_command");
  return command.empty() ? "attnbench sweep (the options of " + folder + ")" : command;
}

json join_environments(const std::vector<CampaignPart>& parts) {
  json joined = parts.front().environment;
  std::vector<json> sessions;
  for (const CampaignPart& part : parts) {
    for (const json& session : sessions_of(part)) {
      if (std::find(sessions.begin(), sessions.end(), session) == sessions.end()) sessions.push_back(session);
    }
    if (part.machine.empty() || joined["machines"].contains(part.machine)) continue;
    joined["machines"][part.machine] = part.environment;
    joined["machines"][part.machine].erase("sessions");
  }
  std::stable_sort(sessions.begin(), sessions.end(),
                   [](const json& a, const json& b) { return text_of(a, "start") < text_of(b, "start"); });
  joined["command_line"] = parts.front().campaign_command();
  joined["start"] = sessions.empty() ? json() : sessions.front()["start"];
  joined["end"] = nullptr;
  for (const json& session : sessions) {
    if (const std::string end = text_of(session, "end"); !end.empty() && end > text_of(joined, "end")) {
      joined["end"] = end;
    }
  }
  joined["sessions"] = sessions;
  return joined;
}

}  // namespace attn
