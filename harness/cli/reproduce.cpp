// attnbench reproduce DIR: a campaign measured again here, and whether it says the same.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "harness/analysis/compare.h"
#include "harness/analysis/reproduction.h"
#include "harness/campaign/campaign.h"
#include "harness/campaign/replan.h"
#include "harness/cli/command.h"

namespace attn {
namespace {

struct ReproduceArguments {
  std::string dir, out, budget;
};

std::string default_folder(std::string dir) {
  while (dir.size() > 1 && dir.back() == '/') dir.pop_back();
  return dir + "-reproduced";
}

int64_t count(const std::vector<Finding>& findings, const std::string& figure, Finding::Outcome outcome) {
  return std::count_if(findings.begin(), findings.end(), [&](const Finding& finding) {
    return finding.figure == figure && finding.outcome == outcome;
  });
}

/// A line per figure, and one per claim that did not hold. Returns whether all held.
bool print_findings(const std::vector<Finding>& findings) {
  std::vector<std::string> figures;
  for (const Finding& finding : findings) {
    if (std::find(figures.begin(), figures.end(), finding.figure) == figures.end())
      figures.push_back(finding.figure);
  }
  bool agree = true;
  for (const std::string& figure : figures) {
    const int64_t differing = count(findings, figure, Finding::Outcome::differs);
    agree = agree && differing == 0;
    fmt::print("{:<24} {:>4} agree, {:>3} differ, {:>3} undecided\n", figure,
               count(findings, figure, Finding::Outcome::agrees), differing,
               count(findings, figure, Finding::Outcome::undecided));
    for (const Finding& finding : findings) {
      if (finding.figure != figure || finding.outcome != Finding::Outcome::differs) continue;
      fmt::print("  differs: {}\n    there: {}\n    here:  {}\n", finding.claim, finding.first,
                 finding.second);
    }
  }
  return agree;
}

void print_times(const CampaignData& first, const CampaignData& second) {
  if (const std::string reason = why_not_comparable(first, second); !reason.empty()) {
    fmt::print("times themselves are not compared: {}\n", reason);
    return;
  }
  fmt::print("times themselves: see attnbench compare {} {}\n", first.dir, second.dir);
}

int run_reproduce(const ReproduceArguments& arguments) {
  const CampaignData first = read_campaign(arguments.dir);
  const Replan again = read_plan(arguments.dir, arguments.budget);
  const std::string folder = arguments.out.empty() ? default_folder(arguments.dir) : arguments.out;
  if (!again.missing.empty()) fmt::print("not in this build: {}\n", fmt::join(again.missing, ", "));
  fmt::print("{} points, {} rows into {}\n", again.plan.points.size(), again.plan.rows(), folder);
  const std::string command_line = fmt::format("attnbench reproduce {} --out {}", arguments.dir, folder);
  if (const int code =
          run_campaign(again.plan, again.plan, again.options, {folder, command_line, command_line, ""}))
    return code;
  write_analysis(folder);
  const CampaignData second = read_campaign(folder);
  fmt::print("\n");
  const bool agree = print_findings(judge_reproduction(first, second));
  print_times(first, second);
  fmt::print("{}\n", agree ? "reproduced" : "not reproduced");
  return agree ? 0 : 1;
}

void add_reproduce(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand(
      "reproduce",
      "Measures a campaign's plan again on this machine and says, figure by figure, what agrees: exponents, "
      "crossovers, the order of the variants. Exit code 1 where anything differs.");
  auto arguments = std::make_shared<ReproduceArguments>();
  command->add_option("dir", arguments->dir, "Folder of a campaign.")->required()->type_name("DIR");
  command
      ->add_option("--out", arguments->out,
                   "Folder of the new campaign; goes on where it stopped. Default: DIR-reproduced.")
      ->type_name("DIR");
  command
      ->add_option("--budget", arguments->budget,
                   "Timed seconds per point and variant. Default: the campaign's.")
      ->type_name("SECONDS");
  command->callback([arguments, &exit_code] { exit_code = run_reproduce(*arguments); });
}

ATTN_COMMAND(65, add_reproduce);

}  // namespace
}  // namespace attn
