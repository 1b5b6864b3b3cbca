#include "harness/oracle/row.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attn {
namespace {

void accumulate(std::vector<double>& to, const std::vector<double>& from) {
  for (size_t e = 0; e < to.size(); ++e) to[e] += from[e];
}

}  // namespace

void TableSum::resize(int64_t rows, int64_t columns) {
  width = columns;
  value.resize(static_cast<size_t>(rows * columns));
  magnitude.resize(value.size());
  terms.resize(value.size());
}

void TableSum::add(const TableSum& other) {
  accumulate(value, other.value);
  accumulate(magnitude, other.magnitude);
  accumulate(terms, other.terms);
  condition.include(other.condition.largest_score, other.condition.terms);
}

TableSums::TableSums(const Problem& p) {
  const Position& position = p.position;
  if (position.shaw()) shaw_key.resize(position.shaw_rows(), p.head_dim);
  if (position.shaw_values()) shaw_value.resize(position.shaw_rows(), p.value_dim);
  if (position.t5()) t5_bias.resize(position.buckets, p.heads_q);
}

void TableSums::add(const TableSums& other) {
  shaw_key.add(other.shaw_key);
  shaw_value.add(other.shaw_value);
  t5_bias.add(other.t5_bias);
}

RowSolver::RowSolver(const Unit& unit, const Bound& bound) : unit_(unit), bound_(bound) {
  for (auto* row : {&o, &o_magnitude}) row->resize(static_cast<size_t>(unit.p.value_dim));
  for (auto* row : {&d_q, &d_q_magnitude}) row->resize(static_cast<size_t>(unit.p.head_dim));
}

void RowSolver::weigh() {
  keys_.clear();
  scores_.clear();
  weights_.clear();
  facts = {-std::numeric_limits<double>::infinity(), {}, {}};
  const KeyRange range = unit_.rule.row_range(unit_.b, i_);
  double maximum = -std::numeric_limits<double>::infinity();
  for (int64_t j = range.begin; j < range.end; ++j) {
    if (!unit_.visible(i_, j)) continue;
    const Unit::Score score = unit_.score(*head_, i_, j);
    keys_.push_back(j);
    scores_.push_back(score);
    maximum = std::max(maximum, score.capped + score.bias);
    facts.condition.include(score.magnitude, 0);
    if (!bound_.asks_for_spread()) continue;
    double& spread = facts.condition.largest_spread;
    spread = std::max(spread, unit_.spread(*head_, i_, j));
  }
  facts.condition.terms = static_cast<int64_t>(keys_.size());
  if (keys_.empty()) return;
  double sum = 0;
  for (const Unit::Score& score : scores_) {
    weights_.push_back(std::exp(score.capped + score.bias - maximum));
    sum += weights_.back();
  }
  for (double& weight : weights_) weight /= sum;
  facts.lse = maximum + std::log(sum);
}

void RowSolver::forward(const QueryHead& head, int64_t i) {
  head_ = &head;
  i_ = i;
  weigh();
  std::fill(o.begin(), o.end(), 0.0);
  std::fill(o_magnitude.begin(), o_magnitude.end(), 0.0);
  for (size_t n = 0; n < keys_.size(); ++n) {
    const double weight = weights_[n], heavier = weight + bound_.floor();
    add_row(weight, heavier, unit_.v, keys_[n], o.data(), o_magnitude.data());
    if (unit_.shaw_value.empty()) continue;
    add_row(weight, heavier, unit_.shaw_value, unit_.shaw_row(i, keys_[n]), o.data(), o_magnitude.data());
  }
}

void RowSolver::backward(TableSums* tables) {
  d_weights_.clear();
  for (size_t n = 0; n < keys_.size(); ++n) {
    const Product d_weight = unit_.d_weight(*head_, i_, keys_[n]);
    d_weights_.push_back(d_weight);
    facts.delta.value += weights_[n] * d_weight.value;
    facts.delta.magnitude += weights_[n] * d_weight.magnitude;
  }
  std::fill(d_q.begin(), d_q.end(), 0.0);
  std::fill(d_q_magnitude.begin(), d_q_magnitude.end(), 0.0);
  for (size_t n = 0; n < keys_.size(); ++n) {
    const double d_score = weights_[n] * (d_weights_[n].value - facts.delta.value);
    const double magnitude =
        (weights_[n] + bound_.floor()) * (d_weights_[n].magnitude + facts.delta.magnitude);
    const double factor = d_score * scores_[n].slope * unit_.tau, heavier = magnitude * std::abs(unit_.tau);
    add_row(factor, heavier, unit_.k, keys_[n], d_q.data(), d_q_magnitude.data());
    if (!unit_.shaw_key.empty()) {
      add_row(factor, heavier, unit_.shaw_key, unit_.shaw_row(i_, keys_[n]), d_q.data(),
              d_q_magnitude.data());
    }
    if (tables) add_to_tables(n, d_score, magnitude, *tables);
  }
  unit_.rotate_back(d_q.data(), d_q_magnitude.data(), i_ + unit_.p.offset());
}

void RowSolver::add_to_tables(size_t n, double d_score, double magnitude, TableSums& tables) const {
  const auto include = [&](TableSum& table, int64_t first) {
    table.condition.include(facts.condition.largest_score, facts.condition.terms);
    for (int64_t c = 0; c < table.width; ++c) table.terms[static_cast<size_t>(first + c)] += 1;
    return std::pair{table.value.data() + first, table.magnitude.data() + first};
  };
  if (unit_.p.position.t5()) {
    TableSum& table = tables.t5_bias;
    const auto element = static_cast<size_t>(unit_.t5_bucket(i_, keys_[n]) * table.width + head_->head);
    table.condition.include(facts.condition.largest_score, facts.condition.terms);
    table.value[element] += d_score;
    table.magnitude[element] += magnitude;
    table.terms[element] += 1;
  }
  if (!unit_.shaw_key.empty()) {
    const auto [value, sum] = include(tables.shaw_key, unit_.shaw_row(i_, keys_[n]) * unit_.p.head_dim);
    add_row(d_score * scores_[n].slope * unit_.tau, magnitude * std::abs(unit_.tau), head_->q, i_, value,
            sum);
  }
  if (!unit_.shaw_value.empty()) {
    const auto [value, sum] = include(tables.shaw_value, unit_.shaw_row(i_, keys_[n]) * unit_.p.value_dim);
    add_row(weights_[n], weights_[n] + bound_.floor(), head_->d_o, i_, value, sum);
  }
}

}  // namespace attn
