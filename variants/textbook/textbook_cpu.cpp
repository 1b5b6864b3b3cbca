// Textbook attention on the CPU, float32, forward and backward: the O(n^2)-memory baseline.
//
// Three passes over materialised scores: S = Q K^T for all heads, softmax of every row in place, O = P V;
// products by Eigen, query rows shared out over threads. Shaw terms go through q.aK and the sum of P by
// distance, so that no n x n x d tensor arises.
//
// Time O(h n^2 d), workspace 4 b h n^2 bytes forward. Vaswani et al. 2017; Shaw et al. 2018.

#include "variants/textbook/textbook_cpu.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attn::textbook {

Scratch Scratch::take(const Problem& p, Workspace& workspace) {
  const bool backward = p.pass == Pass::bwd;
  const int64_t rows = p.batch * p.heads_q * p.seq_q;
  const int64_t by_row = p.position.shaw() ? rows * p.position.shaw_rows() : 0;
  Scratch s;
  s.rope = RopeTable::take(p, workspace);
  s.bias = ToeplitzBias::take(p, workspace);
  s.scores = workspace.take<float>("scores", rows * p.seq_kv);
  s.d_scores = workspace.take<float>("score gradients", backward ? rows * p.seq_kv : 0);
  s.cap_slope = workspace.take<float>("softcap slopes", backward && p.softcap != 0 ? rows * p.seq_kv : 0);
  s.rotated_q = workspace.take<float>("rotated q", p.position.rope() ? rows * p.head_dim : 0);
  s.rotated_k = workspace.take<float>("rotated k",
                                      p.position.rope() ? p.batch * p.seq_kv * p.heads_kv * p.head_dim : 0);
  s.by_row = workspace.take<float>("keys by distance", by_row);
  s.by_value = workspace.take<float>("values by distance", backward && p.position.shaw_values() ? by_row : 0);
  s.d_o = workspace.take<float>("visible d_o", backward ? rows * p.value_dim : 0);
  s.mean = workspace.take<float>("row means", backward ? rows : 0);
  const int64_t sums = backward && p.position.t5() ? p.batch * p.heads_q * s.bias.width() : 0;
  s.bias_sums = workspace.take<float>("bias gradients by distance", sums);
  return s;
}

namespace {

/// out [batch, seq, heads, width] = rows of `in` rotated; row i stands at position i + offset.
ConstTensor rotate_all(const Context& context, const Problem& p, const RopeTable& rope, const ConstTensor& in,
                       int64_t seq, int64_t heads, int64_t offset, float* out) {
#pragma omp parallel for collapse(2) num_threads(context.threads) schedule(static)
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < seq; ++i) {
      for (int64_t h = 0; h < heads; ++h) {
        rope.rotate(in.row<float>(b, i, h), out + ((b * seq + i) * heads + h) * p.head_dim, i + offset);
      }
    }
  }
  return contiguous<const void>(out, seq, heads, p.head_dim);
}

/// P in place of the scores of row i, zero where masked; returns the LSE.
float softmax_row(const Call& call, int64_t b, int64_t h, int64_t i, float* scores) {
  constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
  const KeyRange range = call.rule.row_range(b, i);
  make_logits(call, b, h, i, range, scores, nullptr);
  Eigen::Map<Eigen::ArrayXf> row(scores + range.begin, range.end - range.begin);
  std::fill(scores, scores + range.begin, 0.0f);
  std::fill(scores + range.end, scores + call.p.seq_kv, 0.0f);
  const float maximum = row.size() ? row.maxCoeff<Eigen::PropagateNaN>() : kMinusInfinity;
  if (maximum == kMinusInfinity) {
    row.setZero();
    return kMinusInfinity;
  }
  // Eigen's exp stops at the smallest normal number; a masked weight must be exactly zero.
  row = (row == kMinusInfinity).select(0.0f, (row - maximum).exp());
  const float sum = row.sum();
  row /= sum;
  return maximum + std::log(sum);
}

}  // namespace

Call make_call(const Context& context, const Problem& p, const Scratch& scratch, ConstTensor q, ConstTensor k,
               ConstTensor v, const Tables& tables) {
  scratch.bias.fill(p, tables, 1, context.threads);
  if (p.position.rope()) {
    q = rotate_all(context, p, scratch.rope, q, p.seq_q, p.heads_q, p.offset(), scratch.rotated_q);
    k = rotate_all(context, p, scratch.rope, k, p.seq_kv, p.heads_kv, 0, scratch.rotated_k);
  }
  return {context, p, scratch, q, k, v, tables};
}

void multiply_scores(const Call& call, int64_t b, int64_t h, int64_t i0, int64_t rows) {
  const Problem& p = call.p;
  const ConstView q = Call::rows(call.q, b, h, i0, rows, p.head_dim);
  if (p.seq_kv > 0) {
    call.kept(call.scratch.scores, b, h, i0, rows, p.seq_kv).noalias() = q * call.keys(b, h).transpose();
  }
  if (!p.position.shaw()) return;
  const int64_t distances = p.position.shaw_rows();
  const ConstView table(call.tables.shaw_key, distances, p.head_dim, Eigen::OuterStride<>(p.head_dim));
  call.kept(call.scratch.by_row, b, h, i0, rows, distances).noalias() = q * table.transpose();
}

void make_logits(const Call& call, int64_t b, int64_t h, int64_t i, KeyRange range, float* scores,
                 float* cap_slope) {
  const Problem& p = call.p;
  const auto tau = static_cast<float>(p.softmax_scale()), cap = static_cast<float>(p.softcap);
  const float* bias = call.scratch.bias.empty() ? nullptr : call.scratch.bias.row(h);
  const float* by_distance =
      p.position.shaw() ? call.scratch.by_row + ((b * p.heads_q + h) * p.seq_q + i) * p.position.shaw_rows()
                        : nullptr;
  for (int64_t j = range.begin; j < range.end; ++j) {
    float score = scores[j];
    if (by_distance) score += by_distance[call.shaw_row(i, j)];
    score *= tau;
    if (cap != 0) {
      const float t = std::tanh(score / cap);
      if (cap_slope) cap_slope[j] = 1 - t * t;
      score = cap * t;
    }
    scores[j] = bias ? score + bias[i - j] : score;
  }
  if (!call.rule.blocks) return;
  for (int64_t j = range.begin; j < range.end; ++j) {
    if (call.visible(b, i, j)) continue;
    scores[j] = -std::numeric_limits<float>::infinity();
    if (cap_slope) cap_slope[j] = 0;  // of a score that may be NaN
  }
}

void multiply_add(const View& weights, const ConstView& rows, View out) {
  if (rows.allFinite()) {
    out.noalias() += weights * rows;
    return;
  }
  for (int64_t i = 0; i < weights.rows(); ++i) {
    for (int64_t j = 0; j < weights.cols(); ++j) {
      if (weights(i, j) != 0) out.row(i) += weights(i, j) * rows.row(j);
    }
  }
}

void add_by_distance(const Call& call, int64_t i, KeyRange range, const float* weights, float* sums) {
  for (int64_t j = range.begin; j < range.end; ++j) sums[call.shaw_row(i, j)] += weights[j];
}

void forward(const Context& context, const Problem& p, const Forward& args, const Scratch& scratch) {
  const Call call = make_call(context, p, scratch, args.q, args.k, args.v, args.tables);
  call.for_chunks(
      [&](int64_t b, int64_t h, int64_t i0, int64_t rows) { multiply_scores(call, b, h, i0, rows); });
  call.for_chunks([&](int64_t b, int64_t h, int64_t i0, int64_t rows) {
    for (int64_t i = i0; i < i0 + rows; ++i) {
      const int64_t row = (b * p.heads_q + h) * p.seq_q + i;
      float* scores = scratch.scores + row * p.seq_kv;
      args.lse[row] = softmax_row(call, b, h, i, scores);
      if (!p.position.shaw_values()) continue;
      float* sums = scratch.by_row + row * p.position.shaw_rows();
      std::fill_n(sums, p.position.shaw_rows(), 0.0f);
      add_by_distance(call, i, call.rule.row_range(b, i), scores, sums);
    }
  });
  call.for_chunks([&](int64_t b, int64_t h, int64_t i0, int64_t rows) {
    View o = Call::rows(args.o, b, h, i0, rows, p.value_dim);
    o.setZero();
    multiply_add(call.kept(scratch.scores, b, h, i0, rows, p.seq_kv), call.values(b, h), o);
    if (!p.position.shaw_values()) return;
    const int64_t distances = p.position.shaw_rows();
    const ConstView table(args.tables.shaw_value, distances, p.value_dim, Eigen::OuterStride<>(p.value_dim));
    o.noalias() += call.kept(scratch.by_row, b, h, i0, rows, distances) * table;
  });
}

namespace {

class TextbookCpu final : public Variant {
 public:
  TextbookCpu()
      : Variant({.name = "textbook/cpu",
                 .family = "dense",
                 .tags = {"materialised", "eigen"},
                 .citation = "Vaswani et al. 2017"}) {}

  Support supports(const Problem& p) const override {
    if (p.dtype != Dtype::f32) return {"float32 only"};
    return {};
  }

  void plan(const Context&, const Problem& p, Workspace& workspace) const override {
    Scratch::take(p, workspace);
  }

  Cost cost(const Problem& p) const override {
    const double all = static_cast<double>(p.batch * p.heads_q) * static_cast<double>(p.seq_q) *
                       static_cast<double>(p.seq_kv);
    const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
    Cost cost;
    cost.flops_executed = p.pass == Pass::fwd ? 2 * (d + dv) * all : 2 * (3 * d + 2 * dv) * all;
    cost.exps = static_cast<double>(visible_pairs(p)) * static_cast<double>(p.heads_q);
    const double operands = 4 * static_cast<double>(p.batch) *
                            (static_cast<double>(p.heads_q * p.seq_q) * (d + dv + 1) +
                             static_cast<double>(p.heads_kv * p.seq_kv) * (d + dv));
    // Scores: written by the product, read and written by the softmax, read by the product; the backward has
    // two such matrices and reads each twice more.
    cost.bytes_moved = p.pass == Pass::fwd ? operands + 4 * 4 * all : 2 * operands + 4 * 10 * all;
    cost.time_order = "O(h n^2 d)";
    cost.memory_order = "O(h n^2)";
    return cost;
  }

  void prepare(const Context&, const Problem& p, Workspace& workspace) const override {
    const Scratch scratch = Scratch::take(p, workspace);
    scratch.rope.fill(p);
    scratch.bias.prepare(p);
  }

  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    textbook::forward(context, p, args, Scratch::take(p, workspace));
  }

  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    textbook::backward(context, p, args, Scratch::take(p, workspace));
  }
};

ATTN_REGISTER(std::make_unique<TextbookCpu>());

}  // namespace
}  // namespace attn::textbook
