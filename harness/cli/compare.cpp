// attnbench compare A B: did a variant become slower from one campaign to the other?

#include "harness/analysis/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "harness/analysis/table.h"
#include "harness/cli/command.h"
#include "harness/problem/error.h"
#include "harness/results/append_file.h"

namespace attn {
namespace {

struct CompareArguments {
  std::string a, b, csv;
  double threshold_percent = 2;
  bool force = false;
};

void print_only(const std::vector<std::string>& points, const std::string& dir) {
  if (points.empty()) return;
  fmt::print("\nonly in {}: {}\n", dir, points.size());
  for (const std::string& point : points) fmt::print("  {}\n", point);
}

int64_t count(const Comparison& comparison, const std::string& verdict) {
  return std::count_if(comparison.rows.begin(), comparison.rows.end(),
                       [&](const ComparedRow& row) { return row.verdict == verdict; });
}

/// Of GPU rows; empty where the campaign has none, or is older than graphs.
std::string launch_of(const CampaignData& campaign) {
  for (const ResultRow& row : campaign.rows) {
    if (!row.launch.empty()) return row.launch;
  }
  return "";
}

void print_launch(const CampaignData& a, const CampaignData& b) {
  const std::string of_a = launch_of(a), of_b = launch_of(b);
  if (of_a == of_b || of_a.empty() || of_b.empty()) return;
  fmt::print("launch: {} in {}, {} in {}\n", of_a, a.dir, of_b, b.dir);
}

void print_comparison(const Comparison& comparison, const CompareArguments& arguments) {
  fmt::print("{}", table_of(comparison.rows)
                       .text({"verdict", "variant", "ratio", "ratio_ci_low", "ratio_ci_high", "p_adjusted",
                              "time_s_a", "time_s_b", "threads", "problem"}));
  print_only(comparison.only_in_a, arguments.a);
  print_only(comparison.only_in_b, arguments.b);
  fmt::print(
      "\nratio: time of {} over time of {}, 95 % interval; threshold {} %; p after Holm over all rows\n",
      arguments.b, arguments.a, arguments.threshold_percent);
  fmt::print("processes differ by {:.1f} % (sd), sessions by {:.1f} % (assumed)\n",
             100 * comparison.between_processes, 100 * kBetweenSessions);
  if (std::abs(comparison.shared - 1) * 100 > arguments.threshold_percent) {
    fmt::print(
        "every variant moved to the same side, by {:.3g} at least: that is the machine or the build, and no "
        "row "
        "is called by less\n",
        comparison.shared);
  }
  fmt::print("{} slower, {} faster, {} same, {} unclear, {} broken, {} repaired\n",
             count(comparison, "slower"), count(comparison, "faster"), count(comparison, "same"),
             count(comparison, "unclear"), count(comparison, "broken"), count(comparison, "repaired"));
}

int run_compare(const CompareArguments& arguments) {
  const CampaignData a = read_campaign(arguments.a), b = read_campaign(arguments.b);
  const std::string reason = why_not_comparable(a, b);
  if (!reason.empty() && !arguments.force) throw UsageError(reason + "; --force compares all the same");
  if (!reason.empty()) fmt::print("forced: {}\n", reason);
  print_launch(a, b);
  const Comparison comparison = compare_campaigns(a, b, arguments.threshold_percent / 100);
  print_comparison(comparison, arguments);
  if (!arguments.csv.empty()) replace_file(arguments.csv, table_of(comparison.rows).csv());
  return comparison.regression() ? 1 : 0;
}

void add_compare(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("compare",
                                         "Compares two campaigns point by point. Exit code 1 where a point "
                                         "is slower in B, or fails there alone.");
  auto arguments = std::make_shared<CompareArguments>();
  command->add_option("a", arguments->a, "Folder of the first campaign.")->required()->type_name("A");
  command->add_option("b", arguments->b, "Folder of the second campaign.")->required()->type_name("B");
  command
      ->add_option("--threshold", arguments->threshold_percent,
                   "Change in percent that matters: less is never called faster or slower. Default: 2.")
      ->type_name("PERCENT")
      ->check(CLI::Range(0.0, 100.0));
  command->add_flag("--force", arguments->force,
                    "Compare although machine, compiler, flags, inputs, threads or problems differ.");
  command->add_option("--csv", arguments->csv, "Written: the comparison, one row a point.")
      ->type_name("FILE");
  command->callback([arguments, &exit_code] { exit_code = run_compare(*arguments); });
}

ATTN_COMMAND(62, add_compare);

}  // namespace
}  // namespace attn
