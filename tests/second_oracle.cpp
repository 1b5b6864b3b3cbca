#include "tests/second_oracle.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness/oracle/oracle.h"

namespace attn {
namespace {

using Real = long double;

/// Kahan's compensated sum.
class Sum {
 public:
  void add(Real term) {
    const Real corrected = term - lost_, total = value_ + corrected;
    lost_ = (total - value_) - corrected;
    value_ = total;
  }
  Real value() const { return value_; }

 private:
  Real value_ = 0, lost_ = 0;
};
using Sums = std::vector<Sum>;

class SecondOracle {
 public:
  SecondOracle(const Problem& problem, const Inputs<double>& inputs)
      : p(problem), in(inputs), rule(problem.mask_rule()), out{} {
    out.o.resize(p.batch * p.seq_q * p.heads_q * p.value_dim);
    out.lse.resize(p.batch * p.heads_q * p.seq_q);
    d_q.resize(in.q.size());
    d_k.resize(in.k.size());
    d_v.resize(in.v.size());
    d_shaw_key.resize(in.shaw_key.size());
    d_shaw_value.resize(in.shaw_value.size());
    d_t5.resize(in.t5_bias.size());
  }

  Outputs<double> solve() {
    for (b = 0; b < p.batch; ++b) {
      for (h = 0; h < p.heads_q; ++h) {
        for (i = 0; i < p.seq_q; ++i) solve_row();
      }
    }
    if (p.pass == Pass::fwd) return out;
    const auto copy = [](const Sums& from, std::vector<double>& to) {
      for (const Sum& sum : from) to.push_back(static_cast<double>(sum.value()));
    };
    copy(d_q, out.d_q);
    copy(d_k, out.d_k);
    copy(d_v, out.d_v);
    copy(d_shaw_key, out.d_shaw_key);
    copy(d_shaw_value, out.d_shaw_value);
    copy(d_t5, out.d_t5_bias);
    return out;
  }

 private:
  int64_t g() const { return h * p.heads_kv / p.heads_q; }
  size_t q_at(int64_t c) const { return ((b * p.seq_q + i) * p.heads_q + h) * p.head_dim + c; }
  size_t o_at(int64_t c) const { return ((b * p.seq_q + i) * p.heads_q + h) * p.value_dim + c; }
  size_t k_at(int64_t j, int64_t c) const { return ((b * p.seq_kv + j) * p.heads_kv + g()) * p.head_dim + c; }
  size_t v_at(int64_t j, int64_t c) const {
    return ((b * p.seq_kv + j) * p.heads_kv + g()) * p.value_dim + c;
  }
  int64_t distance(int64_t j) const { return j - i - (p.seq_kv - p.seq_q); }
  size_t table_row(int64_t j) const {
    return std::clamp(distance(j), -p.position.clip, p.position.clip) + p.position.clip;
  }

  /// A row rotated by a number of positions: q_i.R(j - i)k_j is the score, so only one side turns.
  std::vector<Real> turned(const std::vector<double>& tensor, size_t first, Real turns) const {
    std::vector<Real> row(tensor.begin() + static_cast<int64_t>(first),
                          tensor.begin() + static_cast<int64_t>(first) + p.head_dim);
    if (!p.position.rope()) return row;
    const int64_t pairs = p.head_dim / 2;
    for (int64_t m = 0; m < pairs; ++m) {
      const bool interleaved = p.position.kind == PositionKind::rope_interleaved;
      const size_t x = interleaved ? 2 * m : m, y = interleaved ? 2 * m + 1 : m + pairs;
      const Real angle = turns * std::pow(static_cast<Real>(p.position.base), -static_cast<Real>(m) / pairs);
      const Real u = row[x], w = row[y];
      row[x] = u * std::cos(angle) - w * std::sin(angle);
      row[y] = u * std::sin(angle) + w * std::cos(angle);
    }
    return row;
  }

  Real tau() const { return p.scale ? *p.scale : 1 / std::sqrt(static_cast<Real>(p.head_dim)); }

  Real capped(int64_t j) const {
    Sum sum;
    const std::vector<Real> key = turned(in.k, k_at(j, 0), distance(j));
    for (int64_t c = 0; c < p.head_dim; ++c) {
      sum.add(in.q[q_at(c)] * key[c]);
      if (p.position.shaw())
        sum.add(static_cast<Real>(in.q[q_at(c)]) * in.shaw_key[table_row(j) * p.head_dim + c]);
    }
    const Real score = tau() * sum.value(), cap = p.softcap;
    return cap == 0 ? score : cap * std::tanh(score / cap);
  }
  Real bias(int64_t j) const {
    if (p.position.t5()) return in.t5_bias[p.position.t5_bucket(distance(j)) * p.heads_q + h];
    if (p.position.kind != PositionKind::alibi) return 0;
    return -static_cast<Real>(alibi_slope(p.heads_q, h)) * std::abs(distance(j));
  }
  Real value(int64_t j, int64_t c) const {
    const Real v = in.v[v_at(j, c)];
    return p.position.shaw_values() ? v + in.shaw_value[table_row(j) * p.value_dim + c] : v;
  }

  void solve_row() {
    const size_t lse = (b * p.heads_q + h) * p.seq_q + i;
    out.lse[lse] = -std::numeric_limits<double>::infinity();
    std::vector<int64_t> keys;
    std::vector<Real> score, weight;
    Real largest = 0;
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      if (!rule.allows(b, i, j)) continue;
      score.push_back(capped(j));
      largest = keys.empty() ? score.back() + bias(j) : std::max(largest, score.back() + bias(j));
      keys.push_back(j);
    }
    if (keys.empty()) return;
    Sum sum;
    for (size_t n = 0; n < keys.size(); ++n) {
      weight.push_back(std::exp(score[n] + bias(keys[n]) - largest));
      sum.add(weight.back());
    }
    for (Real& w : weight) w /= sum.value();
    out.lse[lse] = static_cast<double>(largest + std::log(sum.value()));
    for (int64_t c = 0; c < p.value_dim; ++c) {
      Sum o;
      for (size_t n = 0; n < keys.size(); ++n) o.add(weight[n] * value(keys[n], c));
      out.o[o_at(c)] = static_cast<double>(o.value());
    }
    if (p.pass == Pass::bwd) add_gradients(keys, score, weight);
  }

  void add_gradients(const std::vector<int64_t>& keys, const std::vector<Real>& score,
                     const std::vector<Real>& weight) {
    std::vector<Real> d_weight;
    Sum delta;
    for (size_t n = 0; n < keys.size(); ++n) {
      Sum product;
      for (int64_t c = 0; c < p.value_dim; ++c) product.add(in.d_o[o_at(c)] * value(keys[n], c));
      d_weight.push_back(product.value());
      delta.add(weight[n] * d_weight.back());
    }
    for (size_t n = 0; n < keys.size(); ++n) {
      const int64_t j = keys[n];
      for (int64_t c = 0; c < p.value_dim; ++c) {
        d_v[v_at(j, c)].add(weight[n] * in.d_o[o_at(c)]);
        if (p.position.shaw_values())
          d_shaw_value[table_row(j) * p.value_dim + c].add(weight[n] * in.d_o[o_at(c)]);
      }
      Real d_score = weight[n] * (d_weight[n] - delta.value());
      if (p.position.t5()) d_t5[p.position.t5_bucket(distance(j)) * p.heads_q + h].add(d_score);
      if (p.softcap != 0) d_score *= 1 - score[n] / p.softcap * (score[n] / p.softcap);
      d_score *= tau();
      const std::vector<Real> key = turned(in.k, k_at(j, 0), distance(j)),
                              query = turned(in.q, q_at(0), -distance(j));
      for (int64_t c = 0; c < p.head_dim; ++c) {
        d_q[q_at(c)].add(d_score * key[c]);
        d_k[k_at(j, c)].add(d_score * query[c]);
        if (!p.position.shaw()) continue;
        d_q[q_at(c)].add(d_score * in.shaw_key[table_row(j) * p.head_dim + c]);
        d_shaw_key[table_row(j) * p.head_dim + c].add(d_score * in.q[q_at(c)]);
      }
    }
  }

  const Problem& p;
  const Inputs<double>& in;
  const MaskRule rule;
  Outputs<double> out;
  Sums d_q, d_k, d_v, d_shaw_key, d_shaw_value, d_t5;
  int64_t b = 0, h = 0, i = 0;
};

using Member = std::vector<double> Outputs<double>::*;
constexpr Member kResults[] = {&Outputs<double>::o,
                               &Outputs<double>::lse,
                               &Outputs<double>::d_q,
                               &Outputs<double>::d_k,
                               &Outputs<double>::d_v,
                               &Outputs<double>::d_shaw_key,
                               &Outputs<double>::d_shaw_value,
                               &Outputs<double>::d_t5_bias};

double largest_of(const std::vector<double>& values) {
  double largest = 1;
  for (double value : values) {
    if (std::isfinite(value)) largest = std::max(largest, std::abs(value));
  }
  return largest;
}

double distance_between(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  const double scale = largest_of(b);
  double distance = 0;
  for (size_t e = 0; e < a.size(); ++e) {
    if (std::isinf(b[e]) && a[e] == b[e]) continue;
    const double difference = std::abs(a[e] - b[e]) / scale;
    distance = difference <= distance ? distance : difference;  // keeps a NaN
  }
  return distance;
}

/// sum dO.O, whose gradients the backward computes.
double loss(const Problem& p, const Inputs<double>& inputs) {
  const Outputs<double> out = solve(p.with(Pass::fwd), inputs, 1);
  Sum sum;
  for (size_t e = 0; e < out.o.size(); ++e) sum.add(static_cast<Real>(out.o[e]) * inputs.d_o[e]);
  return static_cast<double>(sum.value());
}

}  // namespace

double second_oracle_distance(const Problem& problem, Fill fill) {
  const Inputs<double> inputs = to_double(make_inputs(problem, fill, 3));
  const Outputs<double> first = solve(problem, inputs, 1), second = SecondOracle(problem, inputs).solve();
  double distance = 0;
  for (Member result : kResults)
    distance = std::max(distance_between(first.*result, second.*result), distance);
  return distance;
}

double largest_finite_difference_error(const Problem& problem) {
  constexpr double kStep = 1e-5;
  const Inputs<double> inputs = to_double(make_inputs(problem, Fill::normal, 3));
  const Outputs<double> gradients = solve(problem, inputs, 1);
  struct Pair {
    std::vector<double> Inputs<double>::*input;
    Member gradient;
  };
  const Pair pairs[] = {{&Inputs<double>::q, &Outputs<double>::d_q},
                        {&Inputs<double>::k, &Outputs<double>::d_k},
                        {&Inputs<double>::v, &Outputs<double>::d_v},
                        {&Inputs<double>::shaw_key, &Outputs<double>::d_shaw_key},
                        {&Inputs<double>::shaw_value, &Outputs<double>::d_shaw_value},
                        {&Inputs<double>::t5_bias, &Outputs<double>::d_t5_bias}};
  double worst = 0;
  for (const Pair& pair : pairs) {
    std::vector<double> differences;
    for (size_t e = 0; e < (inputs.*pair.input).size(); ++e) {
      Inputs<double> moved = inputs;
      (moved.*pair.input)[e] += kStep;
      const double above = loss(problem, moved);
      (moved.*pair.input)[e] -= 2 * kStep;
      differences.push_back((above - loss(problem, moved)) / (2 * kStep));
    }
    worst = std::max(distance_between(gradients.*pair.gradient, differences), worst);
  }
  return worst;
}

}  // namespace attn
