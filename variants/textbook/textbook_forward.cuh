#pragma once
// The forward of textbook/cuda: scratch, the sequence of steps, cost. Queue is CudaQueue with cuBLAS, or the
// host model.

#include "variants/textbook/textbook_cuda.cuh"

namespace attn {

template <class T>  // float, Bf16 or F16
struct TextbookScratch {
  DeviceMask mask;
  DeviceRope rope;
  DeviceBias bias;
  ShawColumns columns;
  float* scores = nullptr;         // [batch, heads_q, seq_q, seq_kv]
  T* weights = nullptr;            // the same; float32: in place of the scores
  float* query_terms = nullptr;    // Shaw: q.aK, [batch, heads_q, seq_q, columns]
  float* distance_sums = nullptr;  // Shaw values: sums of P by distance, the same shape
  float* wide_q = nullptr;         // Shaw in 16 bits: the tables are float32, so their products are
  float* wide_o = nullptr;         // Shaw values in 16 bits: O before it is rounded
  T* clean_v = nullptr;            // under a mask: V without NaN, [batch, seq_kv, heads_kv, value_dim]
  uint8_t* bad = nullptr;          // [batch, seq_kv, heads_kv]
  int32_t* any_bad = nullptr;

  static TextbookScratch take(const Problem& p, Workspace& workspace) {
    constexpr bool kWide = std::is_same_v<T, float>;
    const int64_t rows = p.batch * p.heads_q * p.seq_q, pairs = rows * p.seq_kv;
    TextbookScratch s;
    s.mask = DeviceMask::take(p, workspace);
    s.rope = DeviceRope::take(p, workspace);
    s.bias = DeviceBias::take(p, workspace);
    s.columns = ShawColumns::of(p);
    s.scores = workspace.take<float>("scores", pairs);
    if constexpr (kWide) {
      s.weights = s.scores;
    } else {
      s.weights = workspace.take<T>("weights", pairs);
    }
    if (p.position.shaw()) {
      s.query_terms = workspace.take<float>("shaw query terms", rows * s.columns.count);
      if (!kWide) s.wide_q = workspace.take<float>("float32 q", rows * p.head_dim);
    }
    if (p.position.shaw_values()) {
      s.distance_sums = workspace.take<float>("weights by distance", rows * s.columns.count);
      if (!kWide) s.wide_o = workspace.take<float>("float32 o", rows * p.value_dim);
    }
    if (!p.mask.none()) {
      const int64_t keys = p.batch * p.seq_kv * p.heads_kv;
      s.clean_v = workspace.take<T>("v without NaN", keys * p.value_dim);
      s.bad = workspace.take<uint8_t>("keys with NaN", keys);
      s.any_bad = workspace.take<int32_t>("any NaN", 1);
    }
    return s;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    mask.prepare(queue, p);
    rope.prepare(queue, p);
    bias.prepare(queue, p);
  }
};

/// One matrix per head: leading dimension, strides between heads and batch entries.
template <class T>
struct HeadMatrices {
  T* data;
  int64_t ld, head_stride, batch_stride;
};
template <class T>
HeadMatrices<T> head_matrices(const GpuTensor<T>& tensor) {
  return {tensor.data, tensor.seq_stride, tensor.head_stride, tensor.batch_stride};
}
/// [batch, heads_q, seq_q, columns]
template <class T>
HeadMatrices<T> pair_matrices(const Problem& p, T* data, int64_t columns) {
  return {data, columns, p.seq_q * columns, p.heads_q * p.seq_q * columns};
}

/// c = op(a) b + beta c for every query head; head h takes matrix h / group of a.
template <class T, class C, class Queue>
void multiply_heads(const Queue& queue, const Problem& p, int64_t group, bool transpose_a, int64_t m,
                    int64_t k, const HeadMatrices<const T>& a, const HeadMatrices<const T>& b, float beta,
                    const HeadMatrices<C>& c) {
  for (int64_t entry = 0; entry < p.batch; ++entry) {
    const int64_t batches = group == 1 ? 1 : p.heads_q / group, heads = p.heads_q / batches;
    for (int64_t g = 0; g < batches; ++g) {
      queue.multiply(Gemm<T, C>{
          transpose_a, m, p.seq_q, k, a.data + entry * a.batch_stride + g * a.head_stride, a.ld,
          group == 1 ? a.head_stride : 0, b.data + entry * b.batch_stride + g * heads * b.head_stride, b.ld,
          b.head_stride, beta, c.data + entry * c.batch_stride + g * heads * c.head_stride, c.ld,
          c.head_stride, heads});
    }
  }
}

/// S = Q K^T.
template <class T, class Queue>
void multiply_scores(const Queue& queue, const Problem& p, const GpuTensor<const T>& q,
                     const GpuTensor<const T>& k, float* scores) {
  multiply_heads(queue, p, p.group(), true, p.seq_kv, p.head_dim, head_matrices(k), head_matrices(q), 0.0f,
                 pair_matrices(p, scores, p.seq_kv));
}

/// q.aK for every row and every column of the table in use.
template <class T, class Queue>
void multiply_query_terms(const Queue& queue, const Problem& p, const GpuTensor<const T>& q,
                          const float* shaw_key, const TextbookScratch<T>& s) {
  GpuTensor<const float> wide;
  if constexpr (std::is_same_v<T, float>) {
    wide = q;
  } else {
    const auto copy = gpu_contiguous(s.wide_q, p.seq_q, p.heads_q, p.head_dim);
    queue.for_each(p.batch * p.seq_q * p.heads_q * p.head_dim,
                   ConvertRows<T, float>{q, copy, p.seq_q, p.heads_q, p.head_dim});
    wide = gpu_contiguous<const float>(s.wide_q, p.seq_q, p.heads_q, p.head_dim);
  }
  const HeadMatrices<const float> table{shaw_key + s.columns.first * p.head_dim, p.head_dim, 0, 0};
  multiply_heads(queue, p, 1, true, s.columns.count, p.head_dim, table, head_matrices(wide), 0.0f,
                 pair_matrices(p, s.query_terms, s.columns.count));
}

/// O = P V, with a V free of NaN under a mask, plus the Shaw value term.
template <class T, class O, class Queue>
void multiply_values(const Queue& queue, const Problem& p, const Forward& args, const GpuTensor<O>& o,
                     const TextbookScratch<T>& s) {
  const auto given = gpu_tensor<const T>(args.v);
  auto v = given;
  if (s.clean_v) {
    queue.for_each(1, SetInteger{s.any_bad});
    queue.for_each(p.batch * p.seq_kv * p.heads_kv,
                   CleanValues<T>{given, s.clean_v, s.bad, s.any_bad, p.seq_kv, p.heads_kv, p.value_dim});
    v = gpu_contiguous<const T>(s.clean_v, p.seq_kv, p.heads_kv, p.value_dim);
  }
  const T* weights = s.weights;
  multiply_heads(queue, p, p.group(), false, p.value_dim, p.seq_kv, head_matrices(v),
                 pair_matrices(p, weights, p.seq_kv), 0.0f, head_matrices(o));
  if constexpr (std::is_same_v<O, float>) {
    if (s.distance_sums) {
      const HeadMatrices<const float> table{args.tables.shaw_value + s.columns.first * p.value_dim,
                                            p.value_dim, 0, 0};
      const float* sums = s.distance_sums;
      multiply_heads(queue, p, 1, false, p.value_dim, s.columns.count, table,
                     pair_matrices(p, sums, s.columns.count), 1.0f, head_matrices(o));
    }
  }
  if (s.clean_v) {
    queue.for_each(p.batch * p.heads_q * p.seq_q,
                   RestoreValues<T, O>{given, weights, o, s.bad, s.any_bad, p.heads_q, p.group(), p.seq_q,
                                       p.seq_kv, p.value_dim});
  }
}

template <class T, class Queue>
void textbook_forward(const Queue& queue, const Problem& p, const Forward& args,
                      const TextbookScratch<T>& s) {
  const auto q = gpu_tensor<const T>(args.q);
  const auto k = gpu_tensor<const T>(args.k);
  const auto o = gpu_tensor<T>(args.o);
  const int64_t rows = p.batch * p.heads_q * p.seq_q;
  if (p.seq_kv == 0) return queue.for_each(rows, EmptyRows<T>{o, args.lse, p.heads_q, p.seq_q, p.value_dim});
  if (s.rope.empty()) {
    multiply_scores(queue, p, q, k, s.scores);
  } else {  // in float32: rounding rotated q and k to 16 bits would cost more than everything else together
    s.rope.rotate(queue, p, q, k);
    multiply_scores(queue, p, s.rope.q(p), s.rope.k(p), s.scores);
  }
  if (p.position.shaw()) multiply_query_terms(queue, p, q, args.tables.shaw_key, s);
  SoftmaxRows<T> softmax{};
  softmax.scores = s.scores;
  softmax.weights = s.weights;
  softmax.lse = args.lse;
  softmax.query_terms = s.query_terms;
  softmax.distance_sums = s.distance_sums;
  softmax.columns = s.columns;
  softmax.clip = p.position.clip;
  softmax.bias = s.bias.fill(queue, p, args.tables);
  softmax.rule = s.mask.rule(p);
  softmax.heads_q = p.heads_q;
  softmax.seq_q = p.seq_q;
  softmax.seq_kv = p.seq_kv;
  softmax.scale = static_cast<float>(p.softmax_scale());
  softmax.softcap = static_cast<float>(p.softcap);
  queue.blocks(rows, softmax);
  if (!s.wide_o) return multiply_values(queue, p, args, o, s);
  const auto wide = gpu_contiguous(s.wide_o, p.seq_q, p.heads_q, p.value_dim);
  multiply_values(queue, p, args, wide, s);
  const auto from = gpu_contiguous<const float>(s.wide_o, p.seq_q, p.heads_q, p.value_dim);
  queue.for_each(rows * p.value_dim, ConvertRows<float, T>{from, o, p.seq_q, p.heads_q, p.value_dim});
}

/// Largest relative change of an operand that a tf32 product rounds: cutting off, as the tensor cores do with
/// what they are given, changes it by less than 2^-10, rounding to nearest by half of that.
inline constexpr double kTf32Rounding = 0x1p-10;

/// Every pair is computed, visible or not. S is written and read, P is written and read; a row of them stays
/// in cache.
inline Cost textbook_cuda_cost(const Problem& p) {
  const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
  const double rows = static_cast<double>(p.batch * p.heads_q) * static_cast<double>(p.seq_q);
  const double pairs = rows * static_cast<double>(p.seq_kv), element = static_cast<double>(bytes_of(p.dtype));
  const auto columns = static_cast<double>(ShawColumns::of(p).count);
  const double keys = static_cast<double>(p.batch * p.heads_kv) * static_cast<double>(p.seq_kv);
  Cost cost;
  cost.flops_executed = 2 * (d + dv) * pairs;
  if (p.position.shaw()) cost.flops_executed += 2 * rows * columns * d;
  if (p.position.shaw_values()) cost.flops_executed += 2 * rows * columns * dv;
  cost.exps = static_cast<double>(visible_pairs(p)) * static_cast<double>(p.heads_q);
  cost.bytes_moved = (8 + 2 * element) * pairs + element * (d + dv) * (rows + keys) + 4 * rows;
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = "O(h n^2)";
  return cost;
}

}  // namespace attn
