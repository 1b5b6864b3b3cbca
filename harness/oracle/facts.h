#pragma once
// LSE and D of every query row of a unit, for dK and dV of a long problem of which only some rows are solved
// in full.

#include "harness/oracle/head.h"

namespace attn {

/// Fills facts of all heads by tiles of Eigen products. Magnitudes are Cauchy-Schwarz bounds of the exact
/// ones: |q| |k| >= sum_c |q_c k_c|, so a bound from them accepts a little more.
void solve_facts(Unit& unit, int threads);

}  // namespace attn
