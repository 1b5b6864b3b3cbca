#pragma once
// The core of the truth: all known rows and columns of one problem.

#include "harness/oracle/bound.h"
#include "harness/oracle/head.h"
#include "harness/oracle/oracle.h"
#include "harness/oracle/sample.h"

namespace attn {

/// `problem` has scope = core; Real is float or double.
template <class Real>
Truth solve_core(const Problem& problem, const CoreOperands<Real>& operands, const RoundedInputs& rounded,
                 const Sample& sample, int threads);
/// scope = block: projections around the core.
Truth solve_block(const Problem& problem, const Inputs<double>& inputs,
                  const OperandRounding& operand_rounding, const Sample& sample, int threads);
/// The results of a problem with the rows the sample knows; values zero.
Truth empty_truth(const Problem& problem, const Sample& sample);

}  // namespace attn
