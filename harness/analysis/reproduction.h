#pragma once
// Does a campaign measured again say the same? Figure by figure, by what the figure is for: growth,
// crossovers, order of the variants, memory. Times themselves belong to a machine and are not held against
// each other here.

#include <string>
#include <vector>

#include "harness/analysis/analysis.h"

namespace attn {

/// One claim of the first campaign and what became of it.
struct Finding {
  enum class Outcome { agrees, differs, undecided };  ///< undecided: either campaign leaves it open
  std::string figure;                                 ///< file name of the figure, or table
  std::string claim;                                  ///< "flash/cpu in n at ...: exponent"
  std::string first, second;
  Outcome outcome = Outcome::undecided;
};

/// Exponents of time agree where their intervals overlap, those of memory to kExactTolerance. Crossovers
/// agree where their intervals overlap, or where both campaigns have none and the same variant is ahead at
/// the largest x. The order of two variants at a point is decided where the intervals of their medians are
/// apart, and differs where both campaigns decide it and not alike. A row that is ok in one campaign alone
/// differs; unsupported ones are left out.
std::vector<Finding> judge_reproduction(const CampaignData& first, const CampaignData& second);

}  // namespace attn
