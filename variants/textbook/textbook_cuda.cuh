#pragma once
// textbook/cuda as steps on a queue: matrix products, a softmax row per thread block, and element-wise
// helpers. Templated on the queue, so that the whole forward also runs in the host model
// (tests/cuda_layout_test.cpp).
//
// Matrix products are stated in BLAS's column-major terms. A row-major matrix [rows, columns] with row stride
// s is the column-major matrix columns x rows with leading dimension s, so that
//   S = Q K^T  (row-major [nq, nk])  is  S^T = K Q^T:  op_a = T on K, op_b = N on Q, m = nk, n = nq, k = d
//   O = P V    (row-major [nq, dv])  is  O^T = V^T P^T: op_a = N on V, op_b = N on P, m = dv, n = nq, k = nk
// Heads are a strided batch. Query heads that share a key/value head are a batch with stride 0 in K and V:
// nothing is copied. cuBLAS is given addresses and strides, never arrays of pointers, so it can see what is
// aligned.

#include <type_traits>

#include "variants/common/gpu_tensor.cuh"
#include "variants/common/mask_cuda.cuh"
#include "variants/common/position_cuda.cuh"

namespace attn {

/// c = op(a) b + beta c, column-major, `batch` times. Float32 accumulation; T is float, Bf16 or F16, C too.
template <class T, class C>
struct Gemm {
  bool transpose_a;
  int64_t m, n, k;
  const T* a;
  int64_t lda, stride_a;
  const T* b;
  int64_t ldb, stride_b;
  float beta;
  C* c;
  int64_t ldc, stride_c;
  int64_t batch;
};

/// One row of scores becomes one row of P; its LSE, and for Shaw its sums of P by distance.
template <class T>
struct SoftmaxRows {
  static constexpr int kThreads = 256;
  static constexpr int kMinBlocks = 4;
  static constexpr int kWarps = kThreads / 32;
  static constexpr float kNone = -INFINITY;
  static constexpr size_t shared_bytes() { return 4 * kWarps * sizeof(float); }

  struct Thread {
    float value[2];  ///< in and out of a reduction
    float maximum;
    float inverse;
  };

  float* scores;             // [batch, heads_q, seq_q, seq_kv]
  T* weights;                // the same shape; may be `scores`
  float* lse;                // [batch, heads_q, seq_q]
  const float* query_terms;  // [batch, heads_q, seq_q, columns.count] q.aK; null: none
  float* distance_sums;      // the same shape; null: none
  ShawColumns columns;
  int64_t clip;
  BiasRows bias;
  MaskRule rule;
  int64_t heads_q, seq_q, seq_kv;
  float scale, softcap;

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t row, float* shared) const {
    const int64_t i = row % seq_q, h = row / seq_q % heads_q, b = row / seq_q / heads_q;
    const MaskRule mask = of_batch_entry(rule, b);
    float* score = scores + row * seq_kv;
    block.each([=, this](auto&, int thread, Thread& state) {
      state.value[0] = kNone;
      for (int64_t j = thread; j < seq_kv; j += kThreads) {
        if (!mask.allows(0, i, j)) continue;
        const float s = finished(score[j], row, h, i, j);
        score[j] = s;
        state.value[0] = fmaxf(state.value[0], s);
      }
    });
    reduce_block<Maximum>(block, shared);
    block.each([=, this](auto&, int thread, Thread& state) {
      state.maximum = state.value[0];
      const float subtracted = state.maximum == kNone ? 0.0f : state.maximum;
      state.value[0] = state.value[1] = 0;
      for (int64_t j = thread; j < seq_kv; j += kThreads) {
        const float weight = mask.allows(0, i, j) ? expf(score[j] - subtracted) : 0.0f;
        score[j] = weight;
        state.value[0] += weight;
      }
    });
    reduce_block<Sum>(block, shared + kWarps);
    T* weight = weights + row * seq_kv;
    block.each([=, this](auto&, int thread, Thread& state) {
      const float sum = state.value[0];
      state.inverse = sum == 0 ? 0.0f : 1 / sum;
      if (thread == 0) lse[row] = sum == 0 ? kNone : state.maximum + logf(sum);
      for (int64_t j = thread; j < seq_kv; j += kThreads) {
        const float p = score[j] * state.inverse;
        score[j] = p;
        if constexpr (!std::is_same_v<T, float>) set(weight[j], p);
      }
    });
    if (distance_sums) add_up_distances(block, row, i, score, shared + 2 * kWarps);
  }

 private:
  /// Scale, Shaw key term, softcap, bias.
  ATTN_DEVICE float finished(float product, int64_t row, int64_t h, int64_t i, int64_t j) const {
    if (query_terms) {
      const int64_t distance = j - i - (seq_kv - seq_q);
      product += query_terms[row * columns.count + shaw_index(clip, distance) - columns.first];
    }
    float s = product * scale;
    if (softcap != 0) s = softcap * tanhf(s / softcap);
    if (bias.rows) s += bias.head(h)[i - j];
    return s;
  }

  /// value[] of all threads combined, in every thread; `shared` has room for 2 kWarps floats used by nobody
  /// else.
  template <class Combine, int kCount = 1, class Block>
  ATTN_DEVICE static void reduce_block(Block& block, float* shared) {
    block.template reduce<Combine, 32>(&Thread::value);
    block.each([=](auto&, int thread, Thread& state) {
      if (thread % 32 != 0) return;
      for (int k = 0; k < kCount; ++k) shared[k * kWarps + thread / 32] = state.value[k];
    });
    block.sync();
    block.each([=](auto&, int, Thread& state) {
      for (int k = 0; k < kCount; ++k) {
        float total = shared[k * kWarps];
        for (int warp = 1; warp < kWarps; ++warp) total = Combine::of(total, shared[k * kWarps + warp]);
        state.value[k] = total;
      }
    });
  }

  /// Inside the clip a distance has one key; the two clipped ends are sums.
  template <class Block>
  ATTN_DEVICE void add_up_distances(Block& block, int64_t row, int64_t i, const float* weight,
                                    float* shared) const {
    const int64_t position = i + seq_kv - seq_q;
    block.each([=, this](auto&, int thread, Thread& state) {
      state.value[0] = state.value[1] = 0;
      for (int64_t j = thread; j < seq_kv; j += kThreads) {
        const int64_t distance = j - position;
        if (distance <= -clip) {
          state.value[0] += weight[j];
        } else if (distance >= clip) {
          state.value[1] += weight[j];
        }
      }
    });
    reduce_block<Sum, 2>(block, shared);
    block.each([=, this](auto&, int thread, Thread& state) {
      float* sums = distance_sums + row * columns.count;
      for (int64_t x = thread; x < columns.count; x += kThreads) {
        const int64_t column = columns.first + x, j = position + column - clip;
        if (column == 0) {
          sums[x] = state.value[0] + (clip == 0 ? state.value[1] : 0.0f);
        } else if (column == 2 * clip) {
          sums[x] = state.value[1];
        } else {
          sums[x] = j >= 0 && j < seq_kv ? weight[j] : 0.0f;
        }
      }
    });
  }
};

/// V with what is not finite replaced by 0, because a weight of 0 does not silence a NaN in a matrix product;
/// and which keys were so. One row of V each.
template <class T>
struct CleanValues {
  GpuTensor<const T> from;
  T* to;             // [batch, seq, heads, width]
  uint8_t* bad;      // [batch, seq, heads]
  int32_t* any_bad;  // [1], 0 before
  int64_t seq, heads, width;

  ATTN_DEVICE void operator()(int64_t row) const {
    const T* source = from.row(row / heads / seq, row / heads % seq, row % heads);
    uint8_t found = 0;
    for (int64_t c = 0; c < width; ++c) {
      const float value = to_float(source[c]);
      const bool finite = value - value == 0;
      set(to[row * width + c], finite ? value : 0.0f);
      if (!finite) found = 1;
    }
    bad[row] = found;
    if (found) *any_bad = 1;
  }
};

/// What CleanValues took from rows that do see such a key. One row of O each; at once done where nothing was
/// bad.
template <class T, class O>
struct RestoreValues {
  GpuTensor<const T> values;
  const T* weights;  // [batch, heads_q, seq_q, seq_kv]
  GpuTensor<O> o;
  const uint8_t* bad;
  const int32_t* any_bad;
  int64_t heads_q, group, seq_q, seq_kv, width;

  ATTN_DEVICE void operator()(int64_t row) const {
    if (*any_bad == 0) return;
    const int64_t i = row % seq_q, h = row / seq_q % heads_q, b = row / seq_q / heads_q, g = h / group;
    O* out = o.row(b, i, h);
    for (int64_t j = 0; j < seq_kv; ++j) {
      const float weight = to_float(weights[row * seq_kv + j]);
      if (weight == 0 || !bad[(b * seq_kv + j) * (heads_q / group) + g]) continue;
      const T* value = values.row(b, j, g);
      for (int64_t c = 0; c < width; ++c) {
        const float v = to_float(value[c]);
        if (!(v - v == 0)) set(out[c], to_float(out[c]) + weight * v);
      }
    }
  }
};

struct SetInteger {
  int32_t* to;
  ATTN_DEVICE void operator()(int64_t) const { *to = 0; }
};

/// Rows of one operand as contiguous float32, or the other way: one element each.
template <class From, class To>
struct ConvertRows {
  GpuTensor<const From> from;
  GpuTensor<To> to;
  int64_t seq, heads, width;

  ATTN_DEVICE void operator()(int64_t index) const {
    const int64_t c = index % width, row = index / width;
    const int64_t h = row % heads, i = row / heads % seq, b = row / heads / seq;
    set(to.row(b, i, h)[c], to_float(from.row(b, i, h)[c]));
  }
};

/// O = 0 and LSE = -inf where there are no keys at all: one row of O each.
template <class T>
struct EmptyRows {
  GpuTensor<T> o;
  float* lse;
  int64_t heads_q, seq_q, width;

  ATTN_DEVICE void operator()(int64_t row) const {
    T* out = o.row(row / seq_q / heads_q, row % seq_q, row / seq_q % heads_q);
    for (int64_t c = 0; c < width; ++c) set(out[c], 0.0f);
    lse[row] = -INFINITY;
  }
};

}  // namespace attn
