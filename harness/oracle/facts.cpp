#include "harness/oracle/facts.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <limits>

namespace attn {
namespace {

constexpr int64_t kTileQueries = 64;
constexpr int64_t kTileKeys = 512;

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<const Matrix>;

View view(const Rows& rows, int64_t begin, int64_t count) { return {rows.at(begin), count, rows.width}; }

double norm(const Rows& rows, int64_t row) {
  const double* magnitudes = rows.magnitude.empty() ? rows.at(row) : rows.magnitude_at(row);
  return Eigen::Map<const Eigen::VectorXd>(magnitudes, rows.width).norm();
}

std::vector<double> norms(const Rows& rows) {
  std::vector<double> all;
  const int64_t count = rows.width ? static_cast<int64_t>(rows.value.size()) / rows.width : 0;
  for (int64_t i = 0; i < count; ++i) all.push_back(norm(rows, i));
  return all;
}

double largest(const std::vector<double>& values) {
  return values.empty() ? 0 : *std::max_element(values.begin(), values.end());
}

/// Online softmax of one row: sums are relative to exp(maximum).
struct RunningRow {
  double maximum = -std::numeric_limits<double>::infinity();
  double sum = 0, delta = 0, delta_magnitude = 0, score_magnitude = 0;
  int64_t keys = 0;

  void add(double score, double magnitude, double d_weight, double d_weight_magnitude) {
    if (score > maximum) {
      const double rescale = std::exp(maximum - score);
      sum *= rescale;
      delta *= rescale;
      delta_magnitude *= rescale;
      maximum = score;
    }
    const double weight = std::exp(score - maximum);
    sum += weight;
    delta += weight * d_weight;
    delta_magnitude += weight * d_weight_magnitude;
    score_magnitude = std::max(score_magnitude, magnitude);
    ++keys;
  }
  RowFacts facts() const {
    if (keys == 0) return {maximum, {}, {}};
    return {maximum + std::log(sum), {score_magnitude, keys}, {delta / sum, delta_magnitude / sum}};
  }
};

class TileRow {
 public:
  TileRow(const Unit& unit, const QueryHead& head)
      : unit_(unit),
        head_(head),
        key_norms_(norms(unit.k)),
        value_norms_(norms(unit.v)),
        shaw_key_norm_(largest(norms(unit.shaw_key))),
        shaw_value_norm_(largest(norms(unit.shaw_value))) {}

  void solve(int64_t i0, std::vector<RowFacts>& facts) const {
    const int64_t count = std::min(kTileQueries, unit_.p.seq_q - i0);
    const auto q = view(head_.q, i0, count), d_o = view(head_.d_o, i0, count);
    Matrix shaw_scores, shaw_weights;
    if (!unit_.shaw_key.empty())
      shaw_scores = q * view(unit_.shaw_key, 0, unit_.p.position.shaw_rows()).transpose();
    if (!unit_.shaw_value.empty()) {
      shaw_weights = d_o * view(unit_.shaw_value, 0, unit_.p.position.shaw_rows()).transpose();
    }
    std::vector<RunningRow> rows(static_cast<size_t>(count));
    for (int64_t j0 = 0; j0 < unit_.p.seq_kv; j0 += kTileKeys) {
      const int64_t keys = std::min(kTileKeys, unit_.p.seq_kv - j0);
      if (unit_.rule.tile(unit_.b, i0, i0 + count, j0, j0 + keys) == TileKind::empty) continue;
      const Matrix scores = q * view(unit_.k, j0, keys).transpose();
      const Matrix d_weights = d_o * view(unit_.v, j0, keys).transpose();
      for (int64_t r = 0; r < count; ++r) {
        const double q_norm = norm(head_.q, i0 + r);
        const double d_o_norm = norm(head_.d_o, i0 + r);
        for (int64_t c = 0; c < keys; ++c) {
          const int64_t i = i0 + r, j = j0 + c;
          if (!unit_.visible(i, j)) continue;
          double product = scores(r, c), d_weight = d_weights(r, c);
          if (shaw_scores.size()) product += shaw_scores(r, unit_.shaw_row(i, j));
          if (shaw_weights.size()) d_weight += shaw_weights(r, unit_.shaw_row(i, j));
          const auto key = static_cast<size_t>(j);
          double magnitude = std::abs(unit_.tau) * q_norm * (key_norms_[key] + shaw_key_norm_);
          const double score = finish(product, i, j, magnitude);
          rows[static_cast<size_t>(r)].add(score, magnitude, d_weight,
                                           d_o_norm * (value_norms_[key] + shaw_value_norm_));
        }
      }
    }
    for (int64_t r = 0; r < count; ++r)
      facts[static_cast<size_t>(i0 + r)] = rows[static_cast<size_t>(r)].facts();
  }

 private:
  double finish(double product, int64_t i, int64_t j, double& magnitude) const {
    double score = unit_.tau * product;
    const double cap = unit_.p.softcap;
    if (cap != 0) score = cap * std::tanh(score / cap);
    if (head_.bias.empty()) return score;
    const double bias = head_.bias[static_cast<size_t>(j - i + unit_.p.seq_q - 1)];
    magnitude += std::abs(bias);
    return score + bias;
  }

  const Unit& unit_;
  const QueryHead& head_;
  std::vector<double> key_norms_, value_norms_;
  double shaw_key_norm_, shaw_value_norm_;
};

}  // namespace

void solve_facts(Unit& unit, int threads) {
  for (QueryHead& head : unit.heads) {
    const TileRow rows(unit, head);
#pragma omp parallel for num_threads(threads) schedule(dynamic)
    for (int64_t i0 = 0; i0 < unit.p.seq_q; i0 += kTileQueries) rows.solve(i0, head.facts);
  }
}

}  // namespace attn
