#pragma once
// What forward and backward of textbook/cpu share: scratch, and the step from products to logits.

#include <Eigen/Core>
#include <algorithm>

#include "harness/variant.h"
#include "variants/common/position_cpu.h"

namespace attn::textbook {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<Matrix, 0, Eigen::OuterStride<>>;
using ConstView = Eigen::Map<const Matrix, 0, Eigen::OuterStride<>>;

/// Rows of queries that one task handles: enough for a product, few enough for all threads to have work.
inline constexpr int64_t kRows = 256;

struct Scratch {
  RopeTable rope;
  ToeplitzBias bias;
  float* scores;     // [batch, heads_q, seq_q, seq_kv] S, then P
  float* d_scores;   // the same, dP, then dS (backward)
  float* cap_slope;  // the same, 1 - (S / c)^2 (backward with softcap)
  float* rotated_q;  // [batch, seq_q, heads_q, head_dim]
  float* rotated_k;  // [batch, seq_kv, heads_kv, head_dim]
  float* by_row;     // [batch, heads_q, seq_q, Shaw rows] q.aK, then P by distance (forward), dS by distance
                     // (backward)
  float* by_value;   // the same, dO.aV, then P by distance (backward)
  float* d_o;        // [batch, seq_q, heads_q, value_dim] dO with rows that see nothing zeroed (backward)
  float* mean;       // [batch, heads_q, seq_q] D (backward)
  float* bias_sums;  // [batch, heads_q, bias width] dS by distance (backward with T5)

  static Scratch take(const Problem& problem, Workspace& workspace);
};

/// One call's operands with rotation already done.
struct Call {
  const Context& context;
  const Problem& p;
  const Scratch& scratch;
  ConstTensor q, k, v;
  Tables tables;
  MaskRule rule = p.mask_rule();

  /// Rows [i0, i0 + rows) of a head of a tensor.
  static ConstView rows(const ConstTensor& t, int64_t b, int64_t h, int64_t i0, int64_t rows, int64_t width) {
    return {t.row<float>(b, i0, h), rows, width, Eigen::OuterStride<>(t.seq_stride)};
  }
  static View rows(const Tensor& t, int64_t b, int64_t h, int64_t i0, int64_t rows, int64_t width) {
    return {t.row<float>(b, i0, h), rows, width, Eigen::OuterStride<>(t.seq_stride)};
  }
  /// Rows of a matrix kept per (batch, query head): [batch, heads_q, seq_q, width].
  View kept(float* matrix, int64_t b, int64_t h, int64_t i0, int64_t rows, int64_t width) const {
    return {matrix + ((b * p.heads_q + h) * p.seq_q + i0) * width, rows, width, Eigen::OuterStride<>(width)};
  }
  ConstView keys(int64_t b, int64_t h) const { return rows(k, b, h / p.group(), 0, p.seq_kv, p.head_dim); }
  ConstView values(int64_t b, int64_t h) const { return rows(v, b, h / p.group(), 0, p.seq_kv, p.value_dim); }
  bool visible(int64_t b, int64_t i, int64_t j) const { return rule.allows(b, i, j); }
  int64_t shaw_row(int64_t i, int64_t j) const { return shaw_index(p.position.clip, j - (i + p.offset())); }

  /// task(b, h, i0, rows) for all query rows in chunks of kRows, shared out over the threads.
  template <class Task>
  void for_chunks(const Task& task) const {
    const int64_t chunks = (p.seq_q + kRows - 1) / kRows, heads = p.batch * p.heads_q;
#pragma omp parallel for num_threads(context.threads) schedule(dynamic)
    for (int64_t index = 0; index < heads * chunks; ++index) {
      const int64_t head = index / chunks, i0 = index % chunks * kRows;
      task(head / p.heads_q, head % p.heads_q, i0, std::min(kRows, p.seq_q - i0));
    }
  }
};

/// Rotates q and k into scratch where the problem rotates, and makes the call.
Call make_call(const Context& context, const Problem& problem, const Scratch& scratch, ConstTensor q,
               ConstTensor k, ConstTensor v, const Tables& tables);

/// scores = q k^T for a chunk, and q.aK beside it.
void multiply_scores(const Call& call, int64_t b, int64_t h, int64_t i0, int64_t rows);
/// Turns the products of row i into logits of its visible keys [range); those a block mask hides become -inf.
void make_logits(const Call& call, int64_t b, int64_t h, int64_t i, KeyRange range, float* scores,
                 float* cap_slope);
/// out += weights * rows, exact where a weight is zero and its row holds NaN.
void multiply_add(const View& weights, const ConstView& rows, View out);
/// sums[row of the distance] += weights[j] over the visible keys of row i.
void add_by_distance(const Call& call, int64_t i, KeyRange range, const float* weights, float* sums);

void forward(const Context& context, const Problem& problem, const Forward& args, const Scratch& scratch);
void backward(const Context& context, const Problem& problem, const Backward& args, const Scratch& scratch);

}  // namespace attn::textbook
