#include "harness/cli/sweep_options.h"

#include <fmt/format.h>

#include "harness/campaign/campaign.h"

namespace attn {

Preset SweepOptions::resolve() const {
  Preset read;
  if (preset.empty()) {
    read.sweeps.emplace_back();
  } else {
    read = read_preset(find_preset(preset, ATTN_SOURCE_DIR "/harness/presets"));
  }
  Settings settings;  // CLI11 leaves those that were not given empty
  for (const auto& [key, values] : given) {
    if (!values.empty()) settings[key] = values;
  }
  return override_preset(read, settings);
}

std::vector<std::string> SweepOptions::words() const {
  std::vector<std::string> list;
  if (!preset.empty()) list = {"--preset", preset};
  for (const auto& [key, values] : given) {
    if (values.empty()) continue;
    list.push_back("--" + key);
    list.insert(list.end(), values.begin(), values.end());
  }
  return list;
}

std::string SweepOptions::name() const {
  std::string name = preset.empty() ? "sweep" : preset;
  if (const size_t slash = name.rfind('/'); slash != std::string::npos) name = name.substr(slash + 1);
  if (name.ends_with(".toml")) name.resize(name.size() - 5);
  return name;
}

PlannedCampaign::PlannedCampaign(const SweepOptions& given) {
  const Preset preset = given.resolve();
  options = parse_campaign(preset.campaign);
  plan = make_plan(preset.sweeps, options);
}

std::string PlannedCampaign::default_folder(const std::string& name) const {
  return "out/" + name + "-" + campaign_id(plan, options).substr(1, 8);
}

std::shared_ptr<SweepOptions> add_sweep_options(CLI::App& command) {
  auto options = std::make_shared<SweepOptions>();
  command
      .add_option("--preset", options->preset,
                  "A named sweep (quick, scaling-n, ...) or a .toml file. Other options override its keys.")
      ->type_name("NAME");
  for (const SettingKey& key : setting_keys()) {
    std::string help = key.help;
    if (key.otherwise && *key.otherwise) help += fmt::format(" Default: {}.", key.otherwise);
    CLI::Option* option = command.add_option(fmt::format("--{}", key.name), options->given[key.name], help);
    option->type_name(key.value)->expected(1, key.list ? CLI::detail::expected_max_vector_size : 1);
  }
  return options;
}

}  // namespace attn
