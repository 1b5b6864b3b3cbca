#pragma once
// The frontier: the largest n that fits into a memory size, for every variant and setting of a campaign.

#include <functional>
#include <string>
#include <vector>

#include "harness/analysis/campaign_data.h"

namespace attn {

/// One memory size for one variant in one setting (setting_of the n axis). Lengths are exact: plan() is asked
/// at every length tried, and one more does not fit.
struct FrontierRow {
  std::string variant, setting, device;
  int64_t memory_bytes = 0;
  std::string is_limit;      ///< yes for the memory limit that the campaign ran with, else no
  Count largest_n;           ///< of one call: operands and workspace; empty where no length fits
  std::string limited_by;    ///< memory, or problem: longer ones cannot be asked for, or are not supported
  Count bytes;               ///< that a call of that length needs
  Number time_s_predicted;   ///< of that call; empty where the variant was not measured
  Count largest_n_checked;   ///< in a campaign: with inputs, oracle and copies of outputs
  Count largest_n_measured;  ///< of the rows of this campaign that are ok
};

/// For the memory limit of the campaign, where it is known, and 8, 16, 24, 40, 80 and 192 GiB. Variants that
/// are not linked are left out, and so are block files, which belong to one length.
std::vector<FrontierRow> find_frontier(const CampaignData& campaign);

/// The largest n of 1 to `most` for which fits(n) holds and fits(n + 1) does not, where growing n only ever
/// needs more; nothing where 1 does not fit.
std::optional<int64_t> largest_length(const std::function<bool(int64_t)>& fits, int64_t most);

}  // namespace attn
