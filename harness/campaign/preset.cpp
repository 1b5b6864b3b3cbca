#include "harness/campaign/preset.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <toml++/toml.h>
#include <algorithm>
#include <filesystem>
#include <set>

#include "harness/problem/error.h"
#include "harness/problem/file.h"

namespace attn {
namespace {

class PresetReader {
 public:
  explicit PresetReader(const std::string& path) : path_(path) {}

  Preset read() {
    const toml::table table = parse();
    Preset preset;
    for (const auto& [key, node] : table) {
      if (key == "sweep") {
        read_sweeps(node, preset);
      } else if (key == "description" && node.is_string()) {
        preset.description = **node.as_string();
      } else {
        read_key(key.str(), node, false, preset.campaign);
      }
    }
    if (preset.sweeps.empty()) throw UsageError(path_ + ": a preset needs at least one [[sweep]] table");
    return preset;
  }

 private:
  toml::table parse() const {
    constexpr uint64_t kMostBytes = uint64_t{1} << 20;
    if (const std::string unreadable = why_unreadable(path_, kMostBytes); !unreadable.empty())
      throw UsageError(fmt::format("--preset: cannot read file '{}': {}", path_, unreadable));
    try {
      return toml::parse_file(path_);
    } catch (const toml::parse_error& error) {
      throw UsageError(fmt::format("{}:{}: {}", path_, error.source().begin.line, error.description()));
    }
  }

  [[noreturn]] void fail(const toml::node& node, const std::string& text) const {
    throw UsageError(fmt::format("{}:{}: {}", path_, node.source().begin.line, text));
  }

  void read_sweeps(const toml::node& node, Preset& preset) const {
    const toml::array* tables = node.as_array();
    if (!tables || !tables->is_array_of_tables()) fail(node, "sweep must be a table: write [[sweep]]");
    for (const toml::node& table : *tables) {
      Settings& sweep = preset.sweeps.emplace_back();
      for (const auto& [key, value] : *table.as_table()) read_key(key.str(), value, true, sweep);
    }
  }

  void read_key(std::string_view name, const toml::node& node, bool in_sweep, Settings& settings) const {
    const SettingKey* key = find_setting(name);
    if (!key || key->per_sweep != in_sweep) {
      std::vector<std::string> accepted;
      for (const SettingKey& known : setting_keys()) {
        if (known.per_sweep == in_sweep) accepted.push_back(known.name);
      }
      fail(node, fmt::format("key '{}' is unknown {}: use {}", name, in_sweep ? "in [[sweep]]" : "here",
                             fmt::join(accepted, ", ")));
    }
    std::vector<std::string>& values = settings[std::string(name)];
    if (const toml::array* list = node.as_array()) {
      if (!key->list) fail(node, fmt::format("key '{}' takes one value", name));
      if (list->empty()) fail(node, fmt::format("key '{}' is an empty list", name));
      for (const toml::node& value : *list) values.push_back(text_of(name, value));
    } else {
      values.push_back(text_of(name, node));
    }
  }

  std::string text_of(std::string_view name, const toml::node& node) const {
    if (const auto* text = node.as_string()) return text->get();
    if (const auto* whole = node.as_integer()) return fmt::format("{}", whole->get());
    if (const auto* real = node.as_floating_point()) return fmt::format("{}", real->get());
    fail(node, fmt::format("key '{}' needs a number, a text or a list of these", name));
  }

  const std::string& path_;
};

}  // namespace

Preset read_preset(const std::string& path) { return PresetReader(path).read(); }

Preset override_preset(Preset preset, const Settings& settings) {
  // Alternatives of one another: giving one takes the others out.
  static const std::vector<std::set<std::string>> alternatives = {{"d", "d-head"}, {"hk", "group"}};
  for (const auto& [key, values] : settings) {
    const SettingKey* known = find_setting(key);
    if (!known->per_sweep) {
      preset.campaign[key] = values;
      continue;
    }
    for (Settings& sweep : preset.sweeps) {
      for (const auto& group : alternatives) {
        if (!group.count(key)) continue;
        for (const std::string& other : group) sweep.erase(other);
      }
      sweep[key] = values;
    }
  }
  return preset;
}

std::string find_preset(const std::string& name, const std::string& folder) {
  namespace fs = std::filesystem;
  if (name.ends_with(".toml")) return name;
  std::vector<std::string> names;
  if (fs::is_directory(folder)) {
    for (const auto& entry : fs::directory_iterator(folder)) {
      if (entry.path().extension() == ".toml") names.push_back(entry.path().stem().string());
    }
  }
  std::sort(names.begin(), names.end());
  if (std::find(names.begin(), names.end(), name) != names.end()) return folder + "/" + name + ".toml";
  throw UsageError(
      fmt::format("preset '{}' is unknown: use {}, or a file ending in .toml", name, fmt::join(names, ", ")));
}

}  // namespace attn
