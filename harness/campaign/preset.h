#pragma once
// Presets: TOML files with the keys of harness/campaign/settings.h. Keys of the campaign stand at the top;
// every
// [[sweep]] table is one set of axes, and all of them run into one folder. A value is a number, a text, or a
// list.
//
//   description = "what it shows"
//   baseline = "textbook/cpu"
//   [[sweep]]
//   n = "128:4096:x2"
//   mask = ["none", "causal"]

#include <string>
#include <vector>

#include "harness/campaign/settings.h"

namespace attn {

struct Preset {
  std::string description;
  Settings campaign;
  std::vector<Settings> sweeps;
};

/// Throws UsageError with file and line: syntax, unknown or misplaced keys, other types of values.
Preset read_preset(const std::string& path);
/// The command line over a preset: its keys replace those of the campaign, or of every sweep.
Preset override_preset(Preset preset, const Settings& settings);

/// Path of a preset of the program by name, or the argument itself where it is a file. Throws UsageError with
/// the names.
std::string find_preset(const std::string& name, const std::string& folder);

}  // namespace attn
