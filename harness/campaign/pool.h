#pragma once
// One row from what several processes measured of a variant at a point.

#include <vector>

#include "harness/campaign/protocol.h"

namespace attn {

/// Of a variant that was ok in every process. Samples are joined, with their process and whether they are
/// outliers; times, intervals and rates are those of all samples (hot ones have columns of their own), errors
/// and memory the largest, the host's load the mean. `stop` says what the sampling came to:
///
///   ratio      the ratio to the baseline is known within job.target
///   median     the variant's own median is, and there was no baseline, or its budget was spent
///   processes  every process knew its answer, but they differ by more than the target
///   budget     none of these within the budget
///
/// `baseline`: outcomes of the same processes; empty where there is no baseline.
Outcome pool(const Job& job, const std::vector<Outcome>& processes, const std::vector<Outcome>& baseline);

}  // namespace attn
