#include "harness/oracle/head.h"

#include <algorithm>
#include <cmath>

namespace attn {
namespace {

/// Head `head` of a tensor [batch, seq, heads, width].
template <class Real>
std::vector<double> take_head(const std::vector<Real>& tensor, int64_t b, int64_t seq, int64_t heads,
                              int64_t head, int64_t width) {
  std::vector<double> rows(static_cast<size_t>(seq * width));
  for (int64_t i = 0; i < seq; ++i) {
    const auto from = tensor.begin() + ((b * seq + i) * heads + head) * width;
    std::copy(from, from + width, rows.begin() + i * width);
  }
  return rows;
}

template <class Real>
Rows take_table(const std::vector<Real>& values, int64_t width, bool magnitudes) {
  Rows rows{width, {values.begin(), values.end()}, {}};
  if (magnitudes) rows.write_magnitudes();
  return rows;
}

/// In two halves: their sums do not wait for one another.
template <class Magnitude>
Product sum_products(const double* x, const double* y, int64_t width, Magnitude magnitude) {
  double low_value = 0, low_magnitude = 0, high_value = 0, high_magnitude = 0;
  const int64_t half = width / 2;
#pragma omp simd reduction(+ : low_value, low_magnitude, high_value, high_magnitude)
  for (int64_t c = 0; c < half; ++c) {
    low_value += x[c] * y[c];
    low_magnitude += magnitude(c);
    high_value += x[half + c] * y[half + c];
    high_magnitude += magnitude(half + c);
  }
  Product sum{low_value + high_value, low_magnitude + high_magnitude};
  for (int64_t c = 2 * half; c < width; ++c) sum = sum + Product{x[c] * y[c], magnitude(c)};
  return sum;
}

}  // namespace

void Rows::write_magnitudes() {
  magnitude = value;
  for (double& m : magnitude) m = std::abs(m);
}

Product product(const Rows& a, int64_t i, const Rows& b, int64_t j) {
  const double *x = a.at(i), *y = b.at(j);
  if (a.magnitude.empty()) {
    return sum_products(x, y, a.width, [=](int64_t c) { return std::abs(x[c] * y[c]); });
  }
  const double *x_magnitude = a.magnitude_at(i), *y_magnitude = b.magnitude_at(j);
  return sum_products(x, y, a.width, [=](int64_t c) { return x_magnitude[c] * y_magnitude[c]; });
}

void add_row(double factor, double weight, const Rows& rows, int64_t row, double* sum, double* magnitude) {
  const double* from = rows.at(row);
  if (rows.magnitude.empty()) {
#pragma omp simd
    for (int64_t c = 0; c < rows.width; ++c) {
      sum[c] += factor * from[c];
      magnitude[c] += weight * std::abs(from[c]);
    }
    return;
  }
  const double* from_magnitude = rows.magnitude_at(row);
#pragma omp simd
  for (int64_t c = 0; c < rows.width; ++c) {
    sum[c] += factor * from[c];
    magnitude[c] += weight * from_magnitude[c];
  }
}

template <class Real>
Unit::Unit(const Problem& problem, const CoreOperands<Real>& operands, int64_t batch_entry, int64_t head_kv)
    : p(problem), rule(problem.mask_rule()), b(batch_entry), g(head_kv), tau(problem.softmax_scale()) {
  const Inputs<Real>& in = operands.values;
  const Inputs<double>* magnitudes = operands.magnitudes;
  k = {p.head_dim, take_head(in.k, b, p.seq_kv, p.heads_kv, g, p.head_dim), {}};
  v = {p.value_dim, take_head(in.v, b, p.seq_kv, p.heads_kv, g, p.value_dim), {}};
  if (magnitudes) {
    k.magnitude = take_head(magnitudes->k, b, p.seq_kv, p.heads_kv, g, p.head_dim);
    v.magnitude = take_head(magnitudes->v, b, p.seq_kv, p.heads_kv, g, p.value_dim);
  }
  if (p.position.rope()) rotate(k, 0);
  if (p.position.shaw()) shaw_key = take_table(in.shaw_key, p.head_dim, magnitudes != nullptr);
  if (p.position.shaw_values()) shaw_value = take_table(in.shaw_value, p.value_dim, magnitudes != nullptr);
  if (p.position.t5() && p.seq_kv > 0) {
    for (int64_t e = 0; e < p.seq_q + p.seq_kv - 1; ++e) {
      buckets.push_back(p.position.t5_bucket(e - (p.seq_q - 1) - p.offset()));
    }
  }
  for (int64_t a = g * p.group(); a < (g + 1) * p.group(); ++a) add_query_head(operands, a);
}

template <class Real>
void Unit::add_query_head(const CoreOperands<Real>& operands, int64_t a) {
  const Inputs<Real>& in = operands.values;
  QueryHead head{.head = a};
  head.q = {p.head_dim, take_head(in.q, b, p.seq_q, p.heads_q, a, p.head_dim), {}};
  if (operands.magnitudes)
    head.q.magnitude = take_head(operands.magnitudes->q, b, p.seq_q, p.heads_q, a, p.head_dim);
  if (p.position.rope()) rotate(head.q, p.offset());
  if (p.pass == Pass::bwd) {
    head.d_o = {p.value_dim, take_head(in.d_o, b, p.seq_q, p.heads_q, a, p.value_dim), {}};
    head.facts.resize(static_cast<size_t>(p.seq_q));
  }
  if (p.position.toeplitz() && p.seq_kv > 0) {
    const double slope = alibi_slope(p.heads_q, a);
    for (int64_t e = 0; e < p.seq_q + p.seq_kv - 1; ++e) {
      const int64_t distance = e - (p.seq_q - 1) - p.offset();
      head.bias.push_back(
          p.position.t5() ? in.t5_bias[static_cast<size_t>(buckets[static_cast<size_t>(e)] * p.heads_q + a)]
                          : -slope * static_cast<double>(std::abs(distance)));
    }
  }
  heads.push_back(std::move(head));
}

template Unit::Unit(const Problem&, const CoreOperands<float>&, int64_t, int64_t);
template Unit::Unit(const Problem&, const CoreOperands<double>&, int64_t, int64_t);

void Unit::rotate(Rows& rows, int64_t first_position) const {
  if (rows.magnitude.empty()) rows.write_magnitudes();
  const bool interleaved = p.position.kind == PositionKind::rope_interleaved;
  const int64_t count = static_cast<int64_t>(rows.value.size()) / rows.width;
  for (int64_t i = 0; i < count; ++i) {
    double* x = rows.value.data() + i * rows.width;
    double* magnitude = rows.magnitude.data() + i * rows.width;
    for (int64_t m = 0; m < p.head_dim / 2; ++m) {
      const auto [first, second] = rope_channels(interleaved, p.head_dim, m);
      const double angle = rope_angle(p.position.base, p.head_dim, m, first_position + i);
      const double u = x[first], w = x[second], cosine = std::cos(angle), sine = std::sin(angle);
      x[first] = u * cosine - w * sine;
      x[second] = u * sine + w * cosine;
      magnitude[first] = magnitude[second] = std::hypot(magnitude[first], magnitude[second]);
    }
  }
}

void Unit::rotate_back(double* value, double* magnitude, int64_t position) const {
  if (!p.position.rope()) return;
  const bool interleaved = p.position.kind == PositionKind::rope_interleaved;
  for (int64_t m = 0; m < p.head_dim / 2; ++m) {
    const auto [first, second] = rope_channels(interleaved, p.head_dim, m);
    const double angle = rope_angle(p.position.base, p.head_dim, m, position);
    const double u = value[first], w = value[second], cosine = std::cos(angle), sine = std::sin(angle);
    value[first] = u * cosine + w * sine;
    value[second] = w * cosine - u * sine;
    magnitude[first] = magnitude[second] = std::hypot(magnitude[first], magnitude[second]);
  }
}

Unit::Score Unit::score(const QueryHead& head, int64_t i, int64_t j) const {
  Product sum = product(head.q, i, k, j);
  if (!shaw_key.empty()) sum = sum + product(head.q, i, shaw_key, shaw_row(i, j));
  const double raw = tau * sum.value;
  Score score{raw, 0, std::abs(tau) * sum.magnitude, 1};
  if (p.softcap != 0) {
    const double tanh = std::tanh(raw / p.softcap);
    score.capped = p.softcap * tanh;
    score.slope = 1 - tanh * tanh;
  }
  if (!head.bias.empty()) {
    score.bias = head.bias[static_cast<size_t>(j - i + p.seq_q - 1)];
    score.magnitude += std::abs(score.bias);
  }
  return score;
}

double Unit::spread(const QueryHead& head, int64_t i, int64_t j) const {
  const bool own = k.magnitude.empty();  // then q's are too
  const double *x = own ? head.q.at(i) : head.q.magnitude_at(i), *y = own ? k.at(j) : k.magnitude_at(j);
  double sum = 0;
  for (int64_t c = 0; c < p.head_dim; ++c) sum += x[c] * y[c] * x[c] * y[c];
  return std::abs(tau) * std::sqrt(sum);
}

Product Unit::d_weight(const QueryHead& head, int64_t i, int64_t j) const {
  Product sum = product(head.d_o, i, v, j);
  if (!shaw_value.empty()) sum = sum + product(head.d_o, i, shaw_value, shaw_row(i, j));
  return sum;
}

}  // namespace attn
