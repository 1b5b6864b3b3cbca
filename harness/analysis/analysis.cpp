#include "harness/analysis/analysis.h"

#include <filesystem>

#include "harness/analysis/summary.h"
#include "harness/analysis/table.h"
#include "harness/results/append_file.h"

namespace attn {

Analysis analyse(const CampaignData& campaign) {
  const LevelsByThreads levels = memory_levels(campaign.environment);
  const std::vector<Series> sweeps = group_series(campaign.rows, campaign.samples, levels);
  Analysis analysis;
  analysis.fits = fit_all(sweeps);
  analysis.slopes = all_slopes(sweeps);
  std::vector<Series> compared = group_series(campaign.rows, campaign.samples, {}, {Axis::density});
  compared.insert(compared.begin(), sweeps.begin(), sweeps.end());
  analysis.crossovers = find_crossovers(compared);
  analysis.frontier = find_frontier(campaign);
  analysis.terms = find_terms(campaign.rows, campaign.samples, levels);
  analysis.telling = telling_numbers(campaign.rows, analysis.fits, analysis.crossovers);
  return analysis;
}

Analysis analyse(const std::string& dir) { return analyse(read_campaign(dir)); }

void write_tables(const Analysis& analysis, const std::string& dir) {
  const std::filesystem::path folder(dir);
  replace_file(folder / "fits.csv", table_of(analysis.fits).csv());
  replace_file(folder / "slopes.csv", table_of(analysis.slopes).csv());
  replace_file(folder / "crossovers.csv", table_of(analysis.crossovers).csv());
  replace_file(folder / "frontier.csv", table_of(analysis.frontier).csv());
  if (!analysis.terms.empty()) replace_file(folder / "terms.csv", table_of(analysis.terms).csv());
}

std::vector<std::string> write_analysis(const std::string& dir) {
  const Analysis analysis = analyse(dir);
  write_tables(analysis, dir);
  return analysis.telling;
}

}  // namespace attn
