#pragma once
// The campaign in five sentences.

#include <string>
#include <vector>

#include "harness/analysis/crossover.h"
#include "harness/analysis/fit.h"

namespace attn {

/// At most five: the steepest and the flattest growth of time in n, a crossover in time, the largest ratio of
/// memory, the worst error. What the campaign does not hold is left out.
std::vector<std::string> telling_numbers(const std::vector<ResultRow>& rows, const std::vector<FitRow>& fits,
                                         const std::vector<CrossoverRow>& crossovers);

}  // namespace attn
