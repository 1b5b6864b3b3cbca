// attnbench sweep: measures a cross product of problems and variants into a folder.

#include <fmt/format.h>

#include <fstream>
#include <memory>
#include <optional>

#include "harness/campaign/campaign.h"
#include "harness/campaign/share.h"
#include "harness/cli/command.h"
#include "harness/cli/finish.h"
#include "harness/cli/sweep_options.h"
#include "harness/problem/error.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

struct SweepArguments {
  std::shared_ptr<SweepOptions> sweep;
  std::string out, shard, points;
  bool dry_run = false;
  bool report = true;
};

/// This process's command line; where the program lies is nobody's business.
std::string command_line() {
  std::ifstream file("/proc/self/cmdline", std::ios::binary);
  std::vector<std::string> words;
  for (std::string word; std::getline(file, word, '\0');) words.push_back(word);
  if (!words.empty()) words.front() = "attnbench";
  return shell_line(words);
}

std::string campaign_command(const SweepOptions& options) {
  std::vector<std::string> words = {"attnbench", "sweep"};
  for (const std::string& word : options.words()) words.push_back(word);
  return shell_line(words);
}

std::optional<Shard> wanted_shard(const SweepArguments& arguments) {
  if (!arguments.shard.empty()) return parse_shard(arguments.shard);
  if (!arguments.points.empty()) return std::nullopt;
  return slurm_shard();
}

/// What of the plan is measured here, and where that goes.
struct Here {
  Plan share;
  CampaignFolder folder;
};

Here find_here(const SweepArguments& arguments, const PlannedCampaign& campaign) {
  const SweepOptions& sweep = *arguments.sweep;
  const std::string out = arguments.out.empty() ? campaign.default_folder(sweep.name()) : arguments.out;
  Here here{campaign.plan, {out, command_line(), campaign_command(sweep), ""}};
  if (const auto shard = wanted_shard(arguments)) {
    here.share = share_of(campaign.plan, campaign.options.budget_s, *shard);
    here.folder.share = "shard " + shard->text();
    here.folder.path = shard_folder(out, *shard);
  } else if (!arguments.points.empty()) {
    here.share = listed_points(campaign.plan, arguments.points);
    here.folder.share = "points " + hash_text(here.share.csv());
  }
  return here;
}

int run_sweep(const SweepArguments& arguments) {
  if (!arguments.shard.empty() && !arguments.points.empty()) {
    throw UsageError("--shard and --points exclude each other: give one");
  }
  const PlannedCampaign campaign(*arguments.sweep);
  const Here here = find_here(arguments, campaign);
  if (arguments.dry_run) {
    print_plan(here.share, campaign.options);
    return 0;
  }
  const bool whole = here.folder.share.empty();
  fmt::print(
      "{} points, {} rows into {}{}\n", here.share.points.size(), here.share.rows(), here.folder.path,
      whole ? ""
            : fmt::format(": {} of a plan of {} points", here.folder.share, campaign.plan.points.size()));
  const int exit_code = run_campaign(campaign.plan, here.share, campaign.options, here.folder);
  if (exit_code || !whole) return exit_code;  // a share is no campaign to fit: `merge` comes first
  return finish(here.folder.path, arguments.report);
}

void add_sweep(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "sweep",
      "Measures every combination of the axes with every variant: checked first, then timed, row by row.");
  auto arguments = std::make_shared<SweepArguments>();
  arguments->sweep = add_sweep_options(*command);
  command
      ->add_option(
          "--out", arguments->out,
          "Folder of the results. The same command on the same folder goes on where it stopped. Default: "
          "out/NAME-HASH, so that the same command finds its folder.")
      ->type_name("DIR");
  command
      ->add_option(
          "--shard", arguments->shard,
          "Measure one share of the plan, I from 0 to N-1, into DIR/shard-I-of-N; `merge` joins them. "
          "Default: everything; in a Slurm job array its SLURM_ARRAY_TASK_ID and "
          "SLURM_ARRAY_TASK_COUNT.")
      ->type_name("I/N");
  command
      ->add_option(
          "--points", arguments->points,
          "Measure only the points of the plan that this file lists, such as the missing.csv of `merge`.")
      ->type_name("FILE");
  command->add_flag(
      "--dry-run", arguments->dry_run,
      "Print the plan with predicted memory and time of each row and an ETA, and write nothing. Times start "
      "from --rates.");
  command->add_flag_callback(
      "--no-report", [arguments] { arguments->report = false; }, "Leave the figures and report.html out.");
  command->callback([arguments, &exit_code] { exit_code = run_sweep(*arguments); });
}

ATTN_COMMAND(20, add_sweep);

}  // namespace
}  // namespace attn
