#include "harness/oracle/column.h"

#include <algorithm>
#include <cmath>

namespace attn {

ColumnSolver::ColumnSolver(const Unit& unit, const Bound& bound) : unit_(unit), bound_(bound) {
  for (auto* row : {&d_k, &d_k_magnitude}) row->resize(static_cast<size_t>(unit.p.head_dim));
  for (auto* row : {&d_v, &d_v_magnitude}) row->resize(static_cast<size_t>(unit.p.value_dim));
}

void ColumnSolver::backward(int64_t j) {
  for (auto* row : {&d_k, &d_k_magnitude, &d_v, &d_v_magnitude}) std::fill(row->begin(), row->end(), 0.0);
  condition = {};
  int64_t terms = 0;
  for (const QueryHead& head : unit_.heads) {
    for (int64_t i = 0; i < unit_.p.seq_q; ++i) {
      if (!unit_.visible(i, j)) continue;
      add_pair(head, i, j);
      ++terms;
    }
  }
  condition.include(0, terms);
  unit_.rotate_back(d_k.data(), d_k_magnitude.data(), j);
}

void ColumnSolver::add_pair(const QueryHead& head, int64_t i, int64_t j) {
  const RowFacts& facts = head.facts[static_cast<size_t>(i)];
  condition.include(facts.condition.largest_score, facts.condition.terms);
  const Unit::Score score = unit_.score(head, i, j);
  const double weight = std::exp(score.capped + score.bias - facts.lse), heavier = weight + bound_.floor();
  add_row(weight, heavier, head.d_o, i, d_v.data(), d_v_magnitude.data());
  const Product d_weight = unit_.d_weight(head, i, j);
  const double factor = weight * (d_weight.value - facts.delta.value) * score.slope * unit_.tau;
  const double magnitude = heavier * (d_weight.magnitude + facts.delta.magnitude) * std::abs(unit_.tau);
  add_row(factor, magnitude, head.q, i, d_k.data(), d_k_magnitude.data());
}

}  // namespace attn
