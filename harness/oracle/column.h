#pragma once
// One key of the truth: its dK and dV, summed over the query heads that read it.

#include "harness/oracle/head.h"

namespace attn {

class ColumnSolver {
 public:
  ColumnSolver(const Unit& unit, const Bound& bound);

  /// Needs the facts of every query row that sees key j.
  void backward(int64_t j);

  std::vector<double> d_k, d_k_magnitude;  ///< [head_dim]
  std::vector<double> d_v, d_v_magnitude;  ///< [value_dim]
  Condition condition;

 private:
  void add_pair(const QueryHead& head, int64_t i, int64_t j);

  const Unit& unit_;
  const Bound& bound_;
};

}  // namespace attn
