#pragma once
// One query row of the truth: its weights, output and LSE; its dQ and its share of the table gradients.

#include "harness/oracle/head.h"

namespace attn {

/// Gradient sums of one position table, [rows, width], with magnitudes and the number of pairs each row adds
/// up.
struct TableSum {
  int64_t width = 0;
  std::vector<double> value, magnitude, terms;
  Condition condition;

  void resize(int64_t rows, int64_t columns);
  void add(const TableSum& other);
};
struct TableSums {
  TableSum shaw_key, shaw_value, t5_bias;

  explicit TableSums(const Problem& problem);
  void add(const TableSums& other);
};

class RowSolver {
 public:
  RowSolver(const Unit& unit, const Bound& bound);

  /// Fills keys, weights, o, lse and condition.
  void forward(const QueryHead& head, int64_t i);
  /// After forward of the same row: delta, d_q; adds to `tables` where given.
  void backward(TableSums* tables);

  std::vector<double> o, o_magnitude;      ///< [value_dim]
  std::vector<double> d_q, d_q_magnitude;  ///< [head_dim]
  RowFacts facts;

 private:
  void weigh();
  void add_to_tables(size_t visible, double d_score, double magnitude, TableSums& tables) const;

  const Unit& unit_;
  const Bound& bound_;
  const QueryHead* head_ = nullptr;
  int64_t i_ = 0;
  std::vector<int64_t> keys_;  ///< visible
  std::vector<Unit::Score> scores_;
  std::vector<double> weights_;
  std::vector<Product> d_weights_;
};

}  // namespace attn
