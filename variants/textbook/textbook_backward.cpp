// Backward of textbook/cpu: P recomputed and kept, dP beside it, four products more.
//
//   dV = P^T dO;  dP = dO V^T;  dS = P (dP - D), D = dO.O;  dQ = tau dS K;  dK = tau dS^T Q.

#include <algorithm>
#include <cmath>
#include <limits>

#include "variants/textbook/textbook_cpu.h"

namespace attn::textbook {
namespace {

struct BackwardCall {
  const Call& call;
  const Backward& args;
  ConstTensor d_o;  // with rows that see nothing zeroed

  int64_t row(int64_t b, int64_t h, int64_t i) const { return (b * call.p.heads_q + h) * call.p.seq_q + i; }
};

/// dO without the rows that see nothing (they may hold NaN), and D of the others.
void copy_visible_gradients(const Call& call, const Backward& args) {
  const Problem& p = call.p;
  call.for_chunks([&](int64_t b, int64_t h, int64_t i0, int64_t rows) {
    for (int64_t i = i0; i < i0 + rows; ++i) {
      const int64_t row = (b * p.heads_q + h) * p.seq_q + i;
      const bool visible = !std::isinf(args.lse[row]);
      const float* d_o = args.d_o.row<float>(b, i, h);
      const float* o = args.o.row<float>(b, i, h);
      float* copy = call.scratch.d_o + ((b * p.seq_q + i) * p.heads_q + h) * p.value_dim;
      float mean = 0;
      for (int64_t c = 0; c < p.value_dim; ++c) {
        copy[c] = visible ? d_o[c] : 0.0f;
        if (visible) mean += d_o[c] * o[c];
      }
      call.scratch.mean[row] = mean;
    }
  });
}

/// Row i: scores become P and d_scores dS; both are zero where masked.
void gradient_row(const BackwardCall& back, int64_t b, int64_t h, int64_t i) {
  const Call& call = back.call;
  const Problem& p = call.p;
  const int64_t row = back.row(b, h, i), distances = p.position.shaw_rows();
  float* scores = call.scratch.scores + row * p.seq_kv;
  float* d_scores = call.scratch.d_scores + row * p.seq_kv;
  float* by_value = p.position.shaw_values() ? call.scratch.by_value + row * distances : nullptr;
  const float lse = back.args.lse[row], mean = call.scratch.mean[row];
  KeyRange range = call.rule.row_range(b, i);
  if (std::isinf(lse)) range = {0, 0};
  make_logits(call, b, h, i, range, scores,
              p.softcap != 0 ? call.scratch.cap_slope + row * p.seq_kv : nullptr);
  for (int64_t j = range.begin; j < range.end; ++j) {
    const bool hidden = scores[j] == -std::numeric_limits<float>::infinity();
    const float weight = hidden ? 0.0f : std::exp(scores[j] - lse);
    const float d_weight = by_value ? d_scores[j] + by_value[call.shaw_row(i, j)] : d_scores[j];
    scores[j] = weight;
    d_scores[j] = weight == 0 ? 0.0f : weight * (d_weight - mean);
  }
  for (float* matrix : {scores, d_scores}) {
    std::fill(matrix, matrix + range.begin, 0.0f);
    std::fill(matrix + range.end, matrix + p.seq_kv, 0.0f);
  }
  if (!by_value) return;
  std::fill_n(by_value, distances, 0.0f);
  add_by_distance(call, i, range, scores, by_value);
}

/// dS summed by distance, then into the table: before the softcap's slope, which lies inside the bias.
void t5_gradient(const BackwardCall& back) {
  const Call& call = back.call;
  const Problem& p = call.p;
  const int64_t width = call.scratch.bias.width();
#pragma omp parallel for num_threads(call.context.threads) schedule(static)
  for (int64_t head = 0; head < p.batch * p.heads_q; ++head) {
    float* sums = call.scratch.bias_sums + head * width;
    std::fill_n(sums, width, 0.0f);
    for (int64_t i = 0; i < p.seq_q; ++i) {
      const float* d_scores = call.scratch.d_scores + (head * p.seq_q + i) * p.seq_kv;
      for (int64_t j = 0; j < p.seq_kv; ++j) sums[i - j + call.scratch.bias.zero()] += d_scores[j];
    }
  }
  std::fill_n(back.args.d_tables.t5_bias, p.position.buckets * p.heads_q, 0.0f);
  for (int64_t head = 0; head < p.batch * p.heads_q; ++head) {
    call.scratch.bias.add_table_gradient(p, head % p.heads_q, call.scratch.bias_sums + head * width,
                                         back.args.d_tables.t5_bias);
  }
}

/// Row i of dS through the softcap, and its sums by distance.
void finish_row(const BackwardCall& back, int64_t b, int64_t h, int64_t i) {
  const Call& call = back.call;
  const Problem& p = call.p;
  const int64_t row = back.row(b, h, i);
  float* d_scores = call.scratch.d_scores + row * p.seq_kv;
  const KeyRange range = call.rule.row_range(b, i);
  if (p.softcap != 0 && !std::isinf(back.args.lse[row])) {
    const float* slope = call.scratch.cap_slope + row * p.seq_kv;
    for (int64_t j = range.begin; j < range.end; ++j) d_scores[j] *= slope[j];
  }
  if (!p.position.shaw()) return;
  float* sums = call.scratch.by_row + row * p.position.shaw_rows();
  std::fill_n(sums, p.position.shaw_rows(), 0.0f);
  add_by_distance(call, i, range, d_scores, sums);
}

void query_gradient(const BackwardCall& back, int64_t b, int64_t h, int64_t i0, int64_t rows) {
  const Call& call = back.call;
  const Problem& p = call.p;
  View d_q = Call::rows(back.args.d_q, b, h, i0, rows, p.head_dim);
  d_q.setZero();
  multiply_add(call.kept(call.scratch.d_scores, b, h, i0, rows, p.seq_kv), call.keys(b, h), d_q);
  if (p.position.shaw()) {
    const int64_t distances = p.position.shaw_rows();
    const ConstView table(call.tables.shaw_key, distances, p.head_dim, Eigen::OuterStride<>(p.head_dim));
    d_q.noalias() += call.kept(call.scratch.by_row, b, h, i0, rows, distances) * table;
  }
  d_q *= static_cast<float>(p.softmax_scale());
  if (call.scratch.rope.empty()) return;
  for (int64_t i = i0; i < i0 + rows; ++i) {
    float* row = back.args.d_q.row<float>(b, i, h);
    call.scratch.rope.rotate(row, row, i + p.offset(), true);
  }
}

/// dK and dV of one key/value head, summed over its query heads.
void key_value_gradient(const BackwardCall& back, int64_t b, int64_t g) {
  const Call& call = back.call;
  const Problem& p = call.p;
  View d_k = Call::rows(back.args.d_k, b, g, 0, p.seq_kv, p.head_dim);
  View d_v = Call::rows(back.args.d_v, b, g, 0, p.seq_kv, p.value_dim);
  d_k.setZero();
  d_v.setZero();
  for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h) {
    const ConstView q = Call::rows(call.q, b, h, 0, p.seq_q, p.head_dim);
    const ConstView d_o = Call::rows(back.d_o, b, h, 0, p.seq_q, p.value_dim);
    d_k.noalias() += call.kept(call.scratch.d_scores, b, h, 0, p.seq_q, p.seq_kv).transpose() * q;
    d_v.noalias() += call.kept(call.scratch.scores, b, h, 0, p.seq_q, p.seq_kv).transpose() * d_o;
  }
  d_k *= static_cast<float>(p.softmax_scale());
  if (call.scratch.rope.empty()) return;
  for (int64_t j = 0; j < p.seq_kv; ++j) {
    float* row = back.args.d_k.row<float>(b, j, g);
    call.scratch.rope.rotate(row, row, j, true);
  }
}

/// gradient [distances, width] = factor * sum over heads of by_distance^T rows.
void shaw_gradient(const BackwardCall& back, float* by_distance, const ConstTensor& rows, int64_t width,
                   float factor, float* gradient) {
  const Problem& p = back.call.p;
  const int64_t distances = p.position.shaw_rows();
  View sum(gradient, distances, width, Eigen::OuterStride<>(width));
  sum.setZero();
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t h = 0; h < p.heads_q; ++h) {
      sum.noalias() += back.call.kept(by_distance, b, h, 0, p.seq_q, distances).transpose() *
                       Call::rows(rows, b, h, 0, p.seq_q, width);
    }
  }
  sum *= factor;
}

}  // namespace

void backward(const Context& context, const Problem& p, const Backward& args, const Scratch& scratch) {
  const Call call = make_call(context, p, scratch, args.q, args.k, args.v, args.tables);
  const BackwardCall back{call, args, contiguous<const void>(scratch.d_o, p.seq_q, p.heads_q, p.value_dim)};
  const int64_t distances = p.position.shaw_rows();
  copy_visible_gradients(call, args);
  call.for_chunks([&](int64_t b, int64_t h, int64_t i0, int64_t rows) {
    multiply_scores(call, b, h, i0, rows);
    const ConstView d_o = Call::rows(back.d_o, b, h, i0, rows, p.value_dim);
    if (p.seq_kv > 0) {
      call.kept(scratch.d_scores, b, h, i0, rows, p.seq_kv).noalias() = d_o * call.values(b, h).transpose();
    }
    if (!p.position.shaw_values()) return;
    const ConstView table(args.tables.shaw_value, distances, p.value_dim, Eigen::OuterStride<>(p.value_dim));
    call.kept(scratch.by_value, b, h, i0, rows, distances).noalias() = d_o * table.transpose();
  });
  call.for_chunks([&](int64_t b, int64_t h, int64_t i0, int64_t rows) {
    for (int64_t i = i0; i < i0 + rows; ++i) gradient_row(back, b, h, i);
  });
  if (p.position.t5()) t5_gradient(back);
  call.for_chunks([&](int64_t b, int64_t h, int64_t i0, int64_t rows) {
    for (int64_t i = i0; i < i0 + rows; ++i) finish_row(back, b, h, i);
    query_gradient(back, b, h, i0, rows);
  });
#pragma omp parallel for collapse(2) num_threads(context.threads) schedule(dynamic)
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t g = 0; g < p.heads_kv; ++g) key_value_gradient(back, b, g);
  }
  if (p.position.shaw()) {
    const auto tau = static_cast<float>(p.softmax_scale());
    shaw_gradient(back, scratch.by_row, call.q, p.head_dim, tau, args.d_tables.shaw_key);
  }
  if (p.position.shaw_values()) {
    shaw_gradient(back, scratch.by_value, back.d_o, p.value_dim, 1, args.d_tables.shaw_value);
  }
}

}  // namespace attn::textbook
