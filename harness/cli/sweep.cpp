// attnbench sweep: measures a cross product of problems and variants into a folder.

#include <fmt/format.h>

#include <fstream>
#include <map>
#include <memory>

#include "harness/analysis/analysis.h"
#include "harness/analysis/report.h"
#include "harness/campaign/campaign.h"
#include "harness/cli/command.h"
#include "harness/problem/error.h"

namespace attn {
namespace {

struct SweepArguments {
  Settings given;  ///< filled by CLI11, one list per key
  std::string preset;
  std::string out;
  bool dry_run = false;
  bool report = true;
};

/// The settings that were given: CLI11 leaves the others empty.
Settings given_settings(const SweepArguments& arguments) {
  Settings settings;
  for (const auto& [key, values] : arguments.given) {
    if (!values.empty()) settings[key] = values;
  }
  return settings;
}

Preset resolve(const SweepArguments& arguments) {
  Preset preset;
  if (arguments.preset.empty()) {
    preset.sweeps.emplace_back();
  } else {
    preset = read_preset(find_preset(arguments.preset, ATTN_SOURCE_DIR "/harness/presets"));
  }
  return override_preset(preset, given_settings(arguments));
}

/// This process's command line, quoted where a shell needs it; where the program lies is nobody's business.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::string line;
  for (std::string word; std::getline(file, word, '\0');) {
    if (line.empty()) word = "attnbench";
    const bool plain =
        !word.empty() && word.find_first_of(" \t'\"\\$*?|&;<>()[]{}^~#!`") == std::string::npos;
    if (!line.empty()) line += ' ';
    line += plain ? word : "'" + word + "'";
  }
  return line;
}

std::string default_folder(const SweepArguments& arguments, const std::string& id) {
  std::string name = arguments.preset.empty() ? "sweep" : arguments.preset;
  if (const size_t slash = name.rfind('/'); slash != std::string::npos) name = name.substr(slash + 1);
  if (name.ends_with(".toml")) name.resize(name.size() - 5);
  return "out/" + name + "-" + id.substr(1, 8);
}

/// Fits, figures and the last lines: where everything is, and what it says.
int finish(const std::string& folder, bool wants_report) {
  const std::vector<std::string> telling = write_analysis(folder);
  int exit_code = 0;
  std::string report = "not wanted";
  if (wants_report) {
    try {
      report = run_report(folder);
    } catch (const std::exception& error) {  // the measurements are complete all the same
      report = "failed";
      fmt::print(stderr, "attnbench: {}\n", error.what());
      exit_code = 1;
    }
  }
  fmt::print(
      "\nrows:    {0}/results.csv\nsamples: {0}/samples.csv\nfits:    {0}/fits.csv, {0}/slopes.csv, "
      "{0}/crossovers.csv\n",
      folder);
  fmt::print("machine: {}/environment.json\n", folder);
  if (wants_report && exit_code == 0) fmt::print("figures: {}/figures\n", folder);
  fmt::print("report:  {}\n", report);
  for (const std::string& line : telling) fmt::print("- {}\n", line);
  return exit_code;
}

int run_sweep(const SweepArguments& arguments) {
  const Preset preset = resolve(arguments);
  const CampaignOptions options = parse_campaign(preset.campaign);
  const Plan plan = make_plan(preset.sweeps, options);
  if (arguments.dry_run) {
    print_plan(plan, options);
    return 0;
  }
  const std::string folder =
      arguments.out.empty() ? default_folder(arguments, campaign_id(plan, options)) : arguments.out;
  fmt::print("{} points, {} rows into {}\n", plan.points.size(), plan.rows(), folder);
  const int exit_code = run_campaign(plan, options, {folder, command_line()});
  return exit_code ? exit_code : finish(folder, arguments.report);
}

void add_sweep(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "sweep",
      "Measures every combination of the axes with every variant: checked first, then timed, row by row.");
  auto arguments = std::make_shared<SweepArguments>();
  command
      ->add_option("--preset", arguments->preset,
                   "A named sweep (quick, scaling-n, ...) or a .toml file. Other options override its keys.")
      ->type_name("NAME");
  for (const SettingKey& key : setting_keys()) {
    std::string help = key.help;
    if (key.otherwise && *key.otherwise) help += fmt::format(" Default: {}.", key.otherwise);
    CLI::Option* option =
        command->add_option(fmt::format("--{}", key.name), arguments->given[key.name], help);
    option->type_name(key.value)->expected(1, key.list ? CLI::detail::expected_max_vector_size : 1);
  }
  command
      ->add_option(
          "--out", arguments->out,
          "Folder of the results. The same command on the same folder goes on where it stopped. Default: "
          "out/NAME-HASH, so that the same command finds its folder.")
      ->type_name("DIR");
  command->add_flag(
      "--dry-run", arguments->dry_run,
      "Print the plan with predicted memory and the least time of each row, and measure nothing.");
  command->add_flag_callback(
      "--no-report", [arguments] { arguments->report = false; }, "Leave the figures and report.html out.");
  command->callback([arguments, &exit_code] { exit_code = run_sweep(*arguments); });
}

ATTN_COMMAND(20, add_sweep);

}  // namespace
}  // namespace attn
