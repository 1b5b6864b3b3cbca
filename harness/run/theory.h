#pragma once
// What a problem costs whatever the algorithm: the figures every variant is held against.

#include "harness/problem/problem.h"

namespace attn {

/// 2 (d + dv) per visible pair and query head forward, 2 (3d + 2dv) backward; a block adds its projections.
double useful_flops(const Problem& problem);
/// One per visible pair and query head; the backward computes the probabilities again.
double useful_exps(const Problem& problem);
/// Each operand and result read or written once.
double compulsory_bytes(const Problem& problem);

}  // namespace attn
