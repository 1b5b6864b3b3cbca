#pragma once
// What the fused backward needs of each query beside Q and dO: LSE as an exponent of 2, and D = dO.O. One
// pass over O and dO before the kernels, a warp a row.
//
// Queries without visible keys, and those that fill the last tile up, get LSE = +inf and D = 0: their weights
// 2^(score - LSE) are 0 and no NaN in their dO gets through.

#include "harness/variant.h"
#include "variants/common/gpu_tensor.cuh"

namespace attn {

/// Rows of [batch, heads_q] as long as whole tiles of any kernel.
struct QueryRows {
  static constexpr int64_t kMultiple = 128;
  float* lse;   // [batch, heads_q, length]
  float* mean;  // [batch, heads_q, length]
  int64_t length;

  static int64_t length_of(const Problem& p) { return (p.seq_q + kMultiple - 1) / kMultiple * kMultiple; }
  static QueryRows take(const Problem& p, Workspace& workspace) {
    const int64_t length = length_of(p), count = p.batch * p.heads_q * length;
    QueryRows rows{nullptr, nullptr, length};
    rows.lse = workspace.take<float>("lse as exponents of 2", count);
    rows.mean = workspace.take<float>("rows of dO.O", count);
    return rows;
  }
  /// Place of query i of head h in both arrays.
  ATTN_DEVICE int64_t at(int64_t b, int64_t heads_q, int64_t h, int64_t i) const {
    return (b * heads_q + h) * length + i;
  }
};

/// kLanes threads a row. kAligned: rows are read 16 bytes at a time, 8 channels a thread, 16-bit numbers.
template <class T, int kLanes = 32, bool kAligned = false>
struct FillQueryRows {
  static constexpr int kThreads = 128;
  static constexpr int kMinBlocks = 8;
  static constexpr int kRowsPerThread = 4;
  static constexpr int kRows = kThreads / kLanes * kRowsPerThread;
  static_assert(QueryRows::kMultiple % kRows == 0, "a block works on one head");
  static constexpr size_t shared_bytes() { return 0; }

  struct Thread {
    float mean[kRowsPerThread];
  };

  GpuTensor<const T> o, d_o;
  const float* lse;  // [batch, heads_q, seq_q]
  QueryRows rows;
  int64_t heads_q, seq_q, value_dim;

  static int64_t blocks(const Problem& p) { return p.batch * p.heads_q * (QueryRows::length_of(p) / kRows); }

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float*) const {
    const int64_t first = index * kRows, head = first / rows.length, b = head / heads_q, h = head % heads_q;
    const int64_t i0 = first % rows.length;
    block.each([=, this](auto&, int thread, Thread& state) {
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        const int64_t i = i0 + thread / kLanes * kRowsPerThread + r;
        state.mean[r] = 0;
        if (i >= seq_q) continue;
        const T *value = o.row(b, i, h), *gradient = d_o.row(b, i, h);
        if constexpr (kAligned) {
          const int c = thread % kLanes * 8;
          if (c < value_dim) state.mean[r] = product_of_8(value + c, gradient + c);
        } else {
          for (int64_t c = thread % kLanes; c < value_dim; c += kLanes) {
            state.mean[r] = fmaf(to_float(value[c]), to_float(gradient[c]), state.mean[r]);
          }
        }
      }
    });
    block.template reduce<Sum, kLanes>(&Thread::mean);
    block.each([=, this](auto&, int thread, Thread& state) {
      if (thread % kLanes != 0) return;
      ATTN_UNROLL
      for (int r = 0; r < kRowsPerThread; ++r) {
        const int64_t row = thread / kLanes * kRowsPerThread + r, i = i0 + row;
        const float natural = i < seq_q ? lse[head * seq_q + i] : -INFINITY;
        const bool empty = natural == -INFINITY;
        rows.lse[first + row] = empty ? INFINITY : natural * kLog2e;
        rows.mean[first + row] = empty ? 0.0f : state.mean[r];
      }
    });
  }

 private:
  ATTN_DEVICE static float product_of_8(const T* value, const T* gradient) {
    struct alignas(16) Eight {
      T of[8];
    };
    const Eight v = *reinterpret_cast<const Eight*>(value), g = *reinterpret_cast<const Eight*>(gradient);
    float sum = 0;
    ATTN_UNROLL
    for (int c = 0; c < 8; ++c) sum = fmaf(to_float(v.of[c]), to_float(g.of[c]), sum);
    return sum;
  }
};

}  // namespace attn
