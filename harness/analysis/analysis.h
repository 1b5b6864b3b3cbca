#pragma once
// From a campaign's folder to its fits, crossovers and terms.

#include <string>
#include <vector>

#include "harness/analysis/campaign_data.h"
#include "harness/analysis/crossover.h"
#include "harness/analysis/fit.h"
#include "harness/analysis/frontier.h"
#include "harness/analysis/slopes.h"
#include "harness/analysis/terms.h"

namespace attn {

struct Analysis {
  std::vector<FitRow> fits;
  std::vector<SlopeRow> slopes;
  std::vector<CrossoverRow> crossovers;
  std::vector<FrontierRow> frontier;
  std::vector<TermRow> terms;        ///< empty where no block was measured beside its core
  std::vector<std::string> telling;  ///< at most five sentences
};

Analysis analyse(const CampaignData& campaign);
/// Throws UsageError where there is no campaign.
Analysis analyse(const std::string& dir);
/// analyse(), and writes fits.csv, slopes.csv, crossovers.csv, frontier.csv and, where there are terms,
/// terms.csv into the folder. Returns the telling sentences.
std::vector<std::string> write_analysis(const std::string& dir);
void write_tables(const Analysis& analysis, const std::string& dir);

}  // namespace attn
