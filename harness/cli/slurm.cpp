// attnbench slurm: a sweep as a job array, from submission to report.

#include <fmt/format.h>

#include <filesystem>
#include <memory>

#include "harness/campaign/share.h"
#include "harness/campaign/slurm.h"
#include "harness/cli/command.h"
#include "harness/cli/finish.h"
#include "harness/cli/merge.h"
#include "harness/cli/sweep_options.h"
#include "harness/problem/error.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

struct SlurmArguments {
  std::shared_ptr<SweepOptions> sweep;
  std::string out;
  int nodes = 0;
  std::vector<std::string> directives;
  MergeOptions merge;
  bool report = true;
};

SlurmJob job_of(const SlurmArguments& arguments, const std::string& folder) {
  SlurmJob job{folder, arguments.nodes, {fs::read_symlink("/proc/self/exe"), "sweep"}, arguments.directives};
  for (const std::string& word : arguments.sweep->words()) job.words.push_back(word);
  return job;
}

/// The shards that left anything; one that did not start is missing, which the merge says.
std::vector<std::string> shard_folders(const std::string& folder, int count) {
  std::vector<std::string> folders;
  for (int k = 0; k < count; ++k) {
    const std::string shard = shard_folder(folder, {k, count});
    if (fs::exists(shard + "/environment.json")) folders.push_back(shard);
  }
  return folders;
}

int run_slurm(const SlurmArguments& arguments) {
  const PlannedCampaign campaign(*arguments.sweep);
  const std::string given =
      arguments.out.empty() ? campaign.default_folder(arguments.sweep->name()) : arguments.out;
  fs::create_directories(given);
  const std::string folder = fs::canonical(given);
  fmt::print("{} points, {} rows into {}\n", campaign.plan.points.size(), campaign.plan.rows(), folder);
  if (const int signal = wait_for_job(submit_or_find(job_of(arguments, folder)))) return signal;
  const std::vector<std::string> shards = shard_folders(folder, arguments.nodes);
  if (shards.empty()) {
    throw std::runtime_error(fmt::format("no task of the job measured anything: see {}/slurm-0.log", folder));
  }
  const bool complete = merge_and_tell(shards, folder, arguments.merge);
  if (!complete) fmt::print("or give the same command again: every task goes on where it stopped\n");
  if (!complete && !arguments.merge.partial) return 1;
  const int exit_code = finish(folder, arguments.report);
  return complete ? exit_code : 1;
}

void add_slurm(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "slurm",
      "Measures a sweep on the nodes of a Slurm cluster: submits a job array of one shard a node, each node "
      "exclusive and requeued if it dies, waits, merges, reports. All nodes must see the program and the "
      "folder.");
  auto arguments = std::make_shared<SlurmArguments>();
  arguments->sweep = add_sweep_options(*command);
  command->add_option("--nodes", arguments->nodes, "Number of nodes, and of shards.")
      ->type_name("N")
      ->required()
      ->check(CLI::Range(1, kMostShards));
  command
      ->add_option(
          "--out", arguments->out,
          "Folder of the results. The same command on the same folder waits for its job, or submits it "
          "again to go on where it stopped. Default: out/NAME-HASH.")
      ->type_name("DIR");
  command
      ->add_option("--sbatch", arguments->directives,
                   "A further option for sbatch, such as --sbatch=--partition=fast; may be repeated.")
      ->type_name("OPTION")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_flag("--mixed", arguments->merge.mixed, "Nodes may differ, as for `merge`.");
  command->add_flag("--partial", arguments->merge.partial, "Report although rows are missing.");
  command->add_flag_callback(
      "--no-report", [arguments] { arguments->report = false; }, "Leave the figures and report.html out.");
  command->callback([arguments, &exit_code] { exit_code = run_slurm(*arguments); });
}

ATTN_COMMAND(23, add_slurm);

}  // namespace
}  // namespace attn
