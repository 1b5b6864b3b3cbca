// attnbench export DIR: a campaign's figures for another program.

#include <fmt/format.h>

#include <memory>

#include "harness/cli/command.h"
#include "harness/paper/pgfplots.h"
#include "harness/problem/error.h"

namespace attn {
namespace {

struct ExportArguments {
  std::string dir, out;
  bool pgfplots = false;
};

void run_export(const ExportArguments& arguments) {
  if (!arguments.pgfplots) throw UsageError("export: say to what: --pgfplots");
  const CampaignData campaign = read_campaign(arguments.dir);
  const std::string folder = arguments.out.empty() ? arguments.dir + "/pgfplots" : arguments.out;
  const std::vector<std::string> paths = export_pgfplots(campaign, folder);
  if (paths.empty()) fmt::print("no sweep with {} values of n, d or h: nothing to draw\n", kSweepPoints);
  for (const std::string& path : paths) fmt::print("{}\n", path);
}

void add_export(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("export", "Writes the figures of a campaign for another program.");
  auto arguments = std::make_shared<ExportArguments>();
  command->add_option("dir", arguments->dir, "Folder of a campaign.")->required()->type_name("DIR");
  command->add_flag(
      "--pgfplots", arguments->pgfplots,
      "For LaTeX: time and memory against n, d and h, each a .tex that compiles alone, with its data.");
  command->add_option("--out", arguments->out, "Folder of the files. Default: DIR/pgfplots.")
      ->type_name("DIR");
  command->callback([arguments] { run_export(*arguments); });
}

ATTN_COMMAND(64, add_export);

}  // namespace
}  // namespace attn
