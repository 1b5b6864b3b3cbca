#pragma once
// Mutation score of the check: planted errors (harness/oracle/control_kernel.h) on the problems and fills
// that `attnbench check` runs by default. Hook and Kelly 2009.

#include <string>
#include <vector>

#include "harness/oracle/control_kernel.h"

namespace attn {

/// One planted error in tensors of one type.
struct Mutant {
  Mutation mutation;
  Dtype dtype;
  std::string killed_by;  ///< problem, fill and reason of the first rejection; empty: it survived

  bool killed() const { return !killed_by.empty(); }
};

struct MutantScore {
  std::vector<Mutant> mutants;            ///< by type, then in the order of all_mutations()
  int64_t correct_runs = 0;               ///< the same kernel without an error
  double correct_worst = 0;               ///< its largest error / bound
  std::vector<std::string> false_alarms;  ///< rejections of it

  /// No false alarm, and no survivor.
  bool ok() const;
};

/// Every mutant of every type over the default problems of that type, until its first rejection.
MutantScore score_mutants(const std::vector<Dtype>& dtypes, uint64_t seed, int threads);

}  // namespace attn
