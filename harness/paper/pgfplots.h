#pragma once
// Figures for LaTeX: a data file per setting and one .tex per figure, which compiles alone (pdflatex,
// packages standalone and pgfplots) or is included with \input after removing its frame.

#include <string>
#include <vector>

#include "harness/analysis/analysis.h"

namespace attn {

/// Writes time_vs_n.tex, memory_vs_n.tex, time_vs_d.tex, ... for the sweeps the campaign holds, with their
/// .dat files beside them. Returns the paths of the .tex files.
std::vector<std::string> export_pgfplots(const CampaignData& campaign, const std::string& folder);

}  // namespace attn
