#pragma once
// An oracle for the oracle: long double, compensated sums, pair by pair from the definition, sharing no code
// with it but Problem, MaskRule and the constants of the positions.

#include "harness/run/inputs.h"

namespace attn {

/// Largest relative difference (absolute below 1) between the two oracles, over every result of the pass.
double second_oracle_distance(const Problem& problem, Fill fill);
/// Largest difference between the oracle's gradients and central differences of its forward, relative to the
/// largest gradient of that operand.
double largest_finite_difference_error(const Problem& problem);

}  // namespace attn
