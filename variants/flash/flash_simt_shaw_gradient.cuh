#pragma once
// Gradients of Shaw's tables, float32:
//
//   daK[x] = tau sum dS_ij q_i,  daV[x] = sum P_ij dO_i     over the pairs at distance x - clip
// A block owns one row x for some units (a head and at most kUnitRows of its queries). Between the clipped
// ends, each query has one key at that distance: its P and dS are computed again, from LSE and D. At the ends
// there are many, and the kernel of dQ has left their sums for each query. Blocks write partial rows, which
// are added in order: no atomics, bitwise the same in every run, O(n) memory for any clip.
//
// A warp takes kPairs queries at a time; its lanes share the channels. Nothing is reused between the rows x:
// 4 (d + dv) multiply-adds a pair and as many numbers read, mostly from cache. Fine for the usual small
// clips. Measured effect: not measured; right on an H200.

#include "variants/flash/flash_simt_gradient.cuh"

namespace attn {

/// Where the sums over clipped distances and the partial rows stand.
struct ShawSums {
  static constexpr int64_t kUnitRows = 1024;
  static constexpr int64_t kMostPartials = 4096;
  float* edges = nullptr;  // [4][batch, heads_q, seq_q]: sums of dS, then of P, each at the low and high end
  float* partials = nullptr;  // [splits, table rows, head_dim + value_dim]
  int64_t splits = 0;

  static int64_t units(const Problem& p) {
    return p.batch * p.heads_q * ((p.seq_q + kUnitRows - 1) / kUnitRows);
  }
  static ShawSums take(const Problem& p, Workspace& workspace) {
    ShawSums sums;
    if (!p.position.shaw()) return sums;
    const int64_t rows = p.position.shaw_rows();
    sums.splits = std::clamp(kMostPartials / rows, int64_t{1}, units(p));
    sums.edges = workspace.take<float>("sums at clipped distances", 4 * p.batch * p.heads_q * p.seq_q);
    sums.partials =
        workspace.take<float>("rows of Shaw gradients", sums.splits * rows * (p.head_dim + p.value_dim));
    return sums;
  }
};

struct FlashSimtShawGradient {
  static constexpr int kThreads = 128;
  static constexpr int kMinBlocks = 2;
  static constexpr int kLanes = 32;
  static constexpr int kWarps = kThreads / kLanes;
  static constexpr int kPairs = 4;
  static constexpr int kChannels = 256 / kLanes;
  static constexpr size_t shared_bytes() { return kWarps * 2 * 256 * sizeof(float); }

  struct Thread {
    float dots[2 * kPairs];  ///< scores, then dP
    float d_key[kChannels];
    float d_value[kChannels];
  };

  FlashSimtGradientArgs args;
  ShawSums sums;
  int64_t batch;

  ATTN_DEVICE int64_t table_rows() const { return 2 * args.clip + 1; }

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    const int64_t x = index % table_rows(), split = index / table_rows();
    const int64_t pieces = (args.seq_q + ShawSums::kUnitRows - 1) / ShawSums::kUnitRows;
    block.each([](auto&, int, Thread& state) {
      ATTN_UNROLL
      for (int m = 0; m < kChannels; ++m) state.d_key[m] = state.d_value[m] = 0;
    });
    for (int64_t unit = split; unit < batch * args.heads_q * pieces; unit += sums.splits) {
      const int64_t head = unit / pieces, first = unit % pieces * ShawSums::kUnitRows;
      const int64_t end = first + ShawSums::kUnitRows < args.seq_q ? first + ShawSums::kUnitRows : args.seq_q;
      for (int64_t i0 = first; i0 < end; i0 += kWarps * kPairs) add_queries(block, x, head, i0, end);
    }
    finish(block, x, split, shared);
  }

 private:
  ATTN_DEVICE bool at_end(int64_t x) const { return x == 0 || x == 2 * args.clip; }
  /// Whether query i sees a key at the distance of row x.
  ATTN_DEVICE bool sees(int64_t x, int64_t b, int64_t i, int64_t end) const {
    const int64_t j = i + args.seq_kv - args.seq_q + x - args.clip;
    return i < end && j >= 0 && j < args.seq_kv && args.rule.allows(b, i, j);
  }

  template <class Block>
  ATTN_DEVICE void add_queries(Block& block, int64_t x, int64_t head, int64_t i0, int64_t end) const {
    const int64_t b = head / args.heads_q, h = head % args.heads_q;
    if (!at_end(x)) {
      block.each([=, this](auto&, int thread, Thread& state) {
        ATTN_UNROLL
        for (int n = 0; n < kPairs; ++n) {
          const int64_t i = i0 + thread / kLanes * kPairs + n;
          state.dots[n] = state.dots[kPairs + n] = 0;
          if (sees(x, b, i, end)) multiply(x, b, h, i, thread % kLanes, state.dots + n);
        }
      });
      block.template reduce<Sum, kLanes>(&Thread::dots);
    }
    block.each([=, this](auto&, int thread, Thread& state) {
      const int lane = thread % kLanes;
      ATTN_ROLL
      for (int n = 0; n < kPairs; ++n) {
        const int64_t i = i0 + thread / kLanes * kPairs + n;
        if (i >= end) continue;
        float weight = 0, d_score = 0;
        if (at_end(x)) {
          const int64_t count = batch * args.heads_q * args.seq_q, at = head * args.seq_q + i;
          d_score = sums.edges[(x == 0 ? 0 : count) + at];
          weight = sums.edges[(x == 0 ? 2 : 3) * count + at];
        } else if (sees(x, b, i, end)) {
          const int64_t at = args.queries.at(b, args.heads_q, h, i);
          float score = dot_of(state, n) * args.scale, slope = 1;
          if (args.softcap != 0) {
            const float bent = tanhf(score / args.softcap);
            score = args.softcap * bent;
            slope = fmaf(-bent, bent, 1.0f);
          }
          weight = exp2f(fmaf(score, kLog2e, -args.queries.lse[at]));
          d_score = weight * (dot_of(state, kPairs + n) - args.queries.mean[at]) * slope;
        }
        const float *query = args.q.tensor.row(b, i, h), *gradient = args.d_o.tensor.row(b, i, h);
        ATTN_UNROLL
        for (int m = 0; m < kChannels; ++m) {  // what has no weight may be NaN
          const int c = lane + kLanes * m;
          if (c < args.q.width && d_score != 0) state.d_key[m] += d_score * query[c];
          if (c < args.v.width && weight != 0) state.d_value[m] += weight * gradient[c];
        }
      }
    });
  }
  /// Registers have no addresses that vary.
  ATTN_DEVICE static float dot_of(const Thread& state, int n) {
    float dot = 0;
    ATTN_UNROLL
    for (int k = 0; k < 2 * kPairs; ++k) dot = k == n ? state.dots[k] : dot;
    return dot;
  }

  /// The lane's part of q.(k + aK) and dO.(v + aV): dots[0] and dots[kPairs].
  ATTN_DEVICE void multiply(int64_t x, int64_t b, int64_t h, int64_t i, int lane, float* dots) const {
    const int64_t j = i + args.seq_kv - args.seq_q + x - args.clip, head_kv = h / args.group;
    const float *query = args.q.tensor.row(b, i, h), *gradient = args.d_o.tensor.row(b, i, h);
    const float *key = args.k.tensor.row(b, j, head_kv), *value = args.v.tensor.row(b, j, head_kv);
    for (int c = lane; c < args.q.width; c += kLanes) {
      dots[0] += query[c] * (key[c] + args.shaw_key[x * args.q.width + c]);
    }
    for (int c = lane; c < args.v.width; c += kLanes) {
      const float relative = args.shaw_value ? args.shaw_value[x * args.v.width + c] : 0.0f;
      dots[kPairs] += gradient[c] * (value[c] + relative);
    }
  }

  /// The warps' sums, in order, into the block's partial row.
  template <class Block>
  ATTN_DEVICE void finish(Block& block, int64_t x, int64_t split, float* shared) const {
    block.each([=](auto&, int thread, Thread& state) {
      float* row = shared + thread / kLanes * 512;
      ATTN_UNROLL
      for (int m = 0; m < kChannels; ++m) {
        row[thread % kLanes + kLanes * m] = state.d_key[m];
        row[256 + thread % kLanes + kLanes * m] = state.d_value[m];
      }
    });
    block.sync();
    block.each([=, this](auto&, int thread, Thread&) {
      const int width = args.q.width + args.v.width;
      for (int c = thread; c < width; c += kThreads) {
        const int at = c < args.q.width ? c : 256 + c - args.q.width;
        float sum = 0;
        ATTN_UNROLL
        for (int warp = 0; warp < kWarps; ++warp) sum += shared[warp * 512 + at];
        sums.partials[(split * table_rows() + x) * width + c] = sum;
      }
    });
  }
};

/// d_key[x][c] = tau times, d_value[x][c] = the partial rows, added in order.
struct AddShawPartials {
  const float* partials;
  float *d_key, *d_value;  // d_value null: no value term
  int64_t splits, rows, head_dim, value_dim;
  float scale;

  ATTN_DEVICE void operator()(int64_t index) const {
    const int64_t width = head_dim + value_dim, x = index / width, c = index % width;
    float sum = 0;
    for (int64_t split = 0; split < splits; ++split) sum += partials[(split * rows + x) * width + c];
    if (c < head_dim) d_key[x * head_dim + c] = sum * scale;
    if (c >= head_dim && d_value) d_value[x * value_dim + c - head_dim] = sum;
  }
};

}  // namespace attn
