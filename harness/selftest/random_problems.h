#pragma once
// False alarms of the check: correct variants on random problems, small and awkward.

#include "harness/oracle/check.h"

namespace attn {

struct RandomRun {
  int64_t problems = 0;
  int64_t runs = 0;  ///< (problem, variant) pairs that a variant supports
  double worst = 0;  ///< largest error / bound
  std::string worst_at;
  std::vector<CheckFailure> failures;
};

/// Problem `number` of a seed, with a fill: every field random; blocks masks are written to `files`.
struct RandomProblem {
  Problem problem;
  Fill fill = Fill::normal;
  Layout layout = Layout::seq_major;
};
RandomProblem random_problem(uint64_t seed, int64_t number, BlockFiles& files);

/// `count` problems, each with every variant that supports it.
RandomRun check_random_problems(const std::vector<const Variant*>& variants, int64_t count, uint64_t seed,
                                int threads);

}  // namespace attn
