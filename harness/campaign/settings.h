#pragma once
// The settings of a sweep, by key, as texts: the command line and the presets fill the same table, so a key
// means the same in both and a command line overrides a preset key by key.

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace attn {

using Settings = std::map<std::string, std::vector<std::string>>;

struct SettingKey {
  const char* name;       ///< `--name` on the command line, `name = ...` in a preset
  bool per_sweep;         ///< belongs in a [[sweep]] table; otherwise to the whole campaign
  bool list;              ///< takes several values
  const char* value;      ///< placeholder in the help
  const char* help;       ///< complete sentences
  const char* otherwise;  ///< default, as text; null: none
};

const std::vector<SettingKey>& setting_keys();
/// Null where the key is unknown.
const SettingKey* find_setting(std::string_view name);

/// The values of a key, or its default.
std::vector<std::string> values_of(const Settings& settings, const std::string& key);
/// The single value of a key, or its default ("" without one).
std::string value_of(const Settings& settings, const std::string& key);

}  // namespace attn
