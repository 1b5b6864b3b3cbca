// attnbench merge: joins the shards of a campaign.

#include "harness/cli/merge.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "harness/cli/command.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

constexpr size_t kMostLines = 20;

void print_lines(const std::vector<std::string>& lines) {
  for (size_t k = 0; k < std::min(lines.size(), kMostLines); ++k) fmt::print("  {}\n", lines[k]);
  if (lines.size() > kMostLines) fmt::print("  and {} more\n", lines.size() - kMostLines);
}

struct MergeArguments {
  std::vector<std::string> folders;
  std::string out;
  MergeOptions options;
};

void add_merge(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "merge",
      "Joins folders that hold shares of one campaign, and checks that every planned row is there once, from "
      "the same machine and build. Exit code 1 where rows are missing.");
  auto arguments = std::make_shared<MergeArguments>();
  command->add_option("folders", arguments->folders, "Folders of the shards.")->required()->type_name("DIRS");
  command->add_option("--out", arguments->out, "Folder of the whole campaign.")->required()->type_name("DIR");
  command->add_flag(
      "--mixed", arguments->options.mixed,
      "Join different machines and builds too: the column machine keeps them apart, in fits and "
      "figures as well.");
  command->add_flag("--partial", arguments->options.partial, "Write the folder although rows are missing.");
  command->callback([arguments, &exit_code] {
    exit_code = merge_and_tell(arguments->folders, arguments->out, arguments->options) ? 0 : 1;
  });
}

ATTN_COMMAND(22, add_merge);

}  // namespace

bool merge_and_tell(const std::vector<std::string>& folders, const std::string& out,
                    const MergeOptions& options) {
  const MergeReport report = merge_folders(folders, out, options);
  fmt::print("{} rows from {} folders, {} in the plan\n", report.rows, report.parts, report.planned_rows);
  if (report.repeated_rows > 0) {
    fmt::print("{} rows were measured twice: the first counts, in the order of the folders\n",
               report.repeated_rows);
  }
  if (!report.differing.empty()) {
    fmt::print("{} of them differ where no two runs may (checks, sizes, FLOPs):\n", report.differing.size());
    print_lines(report.differing);
  }
  if (!report.machines.empty()) fmt::print("machines: {}\n", fmt::join(report.machines, ", "));
  if (!report.missing.empty()) {
    fmt::print("{} points lack rows, see {}/missing.csv:\n", report.missing.size(), out);
    print_lines(report.missing);
    std::vector<std::string> again = {"attnbench", "merge"};
    again.insert(again.end(), folders.begin(), folders.end());
    again.insert(again.end(), {out + "/missing", "--out", out});
    fmt::print("to measure just these, and merge again:\n  {}\n  {}\n", report.rerun_command,
               shell_line(again));
  }
  if (report.written) fmt::print("rows:    {}/results.csv\n", out);
  return report.missing.empty();
}

}  // namespace attn
