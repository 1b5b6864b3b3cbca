// attnbench fit DIR: exponents and crossovers of a campaign.

#include <fmt/format.h>

#include "harness/analysis/analysis.h"
#include "harness/analysis/table.h"
#include "harness/cli/command.h"

namespace attn {
namespace {

void print_fits(const Analysis& analysis) {
  if (analysis.fits.empty()) {
    fmt::print("no sweep with {} values of n, d or h that are equal in everything else\n", kSweepPoints);
    return;
  }
  fmt::print("{}", table_of(analysis.fits)
                       .text({"axis", "quantity", "variant", "exponent", "exponent_ci_low",
                              "exponent_ci_high", "analytic_exponent", "verdict", "held_out_better", "points",
                              "from", "to", "model", "setting"}));
}

void print_crossovers(const Analysis& analysis) {
  if (analysis.crossovers.empty()) return;
  fmt::print("\n{}", table_of(analysis.crossovers)
                         .text({"quantity", "axis", "variant_a", "variant_b", "verdict", "crossover",
                                "crossover_ci_low", "crossover_ci_high", "theory_crossover", "theory",
                                "ratio_at_to", "setting"}));
}

/// The memory limit of the campaign alone; the other sizes stand in the file.
void print_frontier(const Analysis& analysis) {
  std::vector<FrontierRow> at_limit;
  for (const FrontierRow& row : analysis.frontier) {
    if (row.is_limit == "yes") at_limit.push_back(row);
  }
  if (at_limit.empty()) return;
  fmt::print("\n{}", table_of(at_limit).text({"variant", "memory_bytes", "largest_n", "limited_by",
                                              "time_s_predicted", "largest_n_checked", "largest_n_measured",
                                              "setting"}));
}

void print_terms(const Analysis& analysis) {
  if (analysis.terms.empty()) return;
  fmt::print("\n{}", table_of(analysis.terms)
                         .text({"variant", "term", "axis", "d_model", "exponent", "exponent_ci_low",
                                "exponent_ci_high", "analytic_exponent", "crossing", "crossing_ci_low",
                                "crossing_ci_high", "theory_crossing", "theory_crossing_at_rates", "verdict",
                                "points", "from", "to"}));
}

void add_fit(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("fit",
                                         "Fits exponents in n, d and h, finds crossovers; writes fits.csv, "
                                         "slopes.csv, crossovers.csv, frontier.csv, "
                                         "and terms.csv where blocks were measured beside their cores.");
  static std::string dir;
  command->add_option("dir", dir, "Folder of a campaign.")->required()->type_name("DIR");
  command->callback([] {
    const Analysis analysis = analyse(dir);
    write_tables(analysis, dir);
    print_fits(analysis);
    print_crossovers(analysis);
    print_frontier(analysis);
    print_terms(analysis);
    if (!analysis.telling.empty()) fmt::print("\n");
    for (const std::string& sentence : analysis.telling) fmt::print("- {}\n", sentence);
  });
}

ATTN_COMMAND(60, add_fit);

}  // namespace
}  // namespace attn
