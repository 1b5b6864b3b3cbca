#pragma once
// The end of flash/cuda/decode: where results and partial results lie, and the thread block that merges the
// splits of a row.
//
// A split leaves O (not divided), its reference r and its sum l. With R the largest r: O = sum 2^(r - R) O_s
// / sum 2^(r - R) l_s, LSE = (R + log2 l) ln 2; splits are added in an order that depends on their number
// alone. A split that a row does not see has r = -inf, l = 0 and O = 0.

#include "variants/common/gpu_tensor.cuh"
#include "variants/common/mma_layout.h"
#include "variants/common/warp.cuh"

namespace attn {

/// 2^(reference - highest); 0 where nothing was seen.
ATTN_DEVICE float decode_factor(float reference, float highest) {
  return exp2_approximate(reference - (highest == -INFINITY ? 0.0f : highest));
}
ATTN_DEVICE void add(Float4& to, float factor, const Float4& four) {
  to.x += factor * four.x;
  to.y += factor * four.y;
  to.z += factor * four.z;
  to.w += factor * four.w;
}

template <class T>
struct DecodeResult {
  GpuTensor<T> o;
  bool o_aligned;
  float* lse;  // [batch, heads_q, seq_q]
  int heads_kv, group, seq_q, value_dim;
  float* partial_o;   // [splits, heads_kv, rows, partial_stride]; null: the keys are not split
  float* partial_rl;  // [splits, heads_kv, rows, 2]: reference and sum
  int partial_stride;

  /// Query rows of a key/value head: the queries of its first head, then those of the next.
  ATTN_DEVICE int rows() const { return group * seq_q; }
  ATTN_DEVICE int query_of(int row) const {
    return static_cast<int>(static_cast<uint32_t>(row) % static_cast<uint32_t>(seq_q));
  }
  ATTN_DEVICE int head_of(int head_kv, int row) const {
    return head_kv * group + static_cast<int>(static_cast<uint32_t>(row) / static_cast<uint32_t>(seq_q));
  }

  /// Channels [c, c + 4) of partial row `at`.
  ATTN_DEVICE void write_partial(int64_t at, int c, const Float4& sums, float reference, float sum) const {
    *reinterpret_cast<Float4*>(partial_o + at * partial_stride + c) = sums;
    if (c == 0) *reinterpret_cast<Float2*>(partial_rl + 2 * at) = {reference, sum};
  }
  /// Channels [c, c + 4) of O, and LSE.
  ATTN_DEVICE void write(int64_t b, int head_kv, int row, int c, const Float4& sums, float reference,
                         float sum) const {
    const int64_t i = query_of(row), h = head_of(head_kv, row);
    const float inverse = sum == 0 ? 0.0f : 1 / sum;
    const float four[4] = {sums.x * inverse, sums.y * inverse, sums.z * inverse, sums.w * inverse};
    T* to = o.row(b, i, h) + c;
    if (o_aligned) {
      *reinterpret_cast<Pairs*>(to) = {{pack<T>(four[0], four[1]), pack<T>(four[2], four[3])}};
    } else {
      ATTN_UNROLL
      for (int e = 0; e < 4; ++e) {
        if (c + e < value_dim) set(to[e], four[e]);
      }
    }
    if (c == 0)
      lse[(b * heads_kv * group + h) * seq_q + i] = sum == 0 ? -INFINITY : (reference + log2f(sum)) * kLn2;
  }

 private:
  struct alignas(8) Pairs {
    uint32_t of[2];
  };
};

/// Block `index` merges one row: warps take every kWarps-th split, their sums are added in order.
template <class T>
struct DecodeMerge {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * kWarpLanes;
  static constexpr int kMinBlocks = 3;
  static constexpr int kWidest = 256;
  static constexpr int kFours = kWidest / 4 / kWarpLanes;  ///< of a lane
  static constexpr int kSums = kWarps * kWidest;           ///< floats; then the warps' references
  static constexpr int kReferences = kSums + kWarps;
  static constexpr size_t shared_bytes() { return (kReferences + kWarps) * sizeof(float); }

  struct Thread {
    Float4 o[kFours];
    float sum;
    float reference[1];
  };

  DecodeResult<T> result;
  const int32_t* starts;  // [batch + 1]: splits of a batch entry

  struct Place {
    int b, head_kv, row;
    int first, last;  ///< splits
  };

  template <class Block>
  ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const {
    const Place place = place_of(index);
    block.each([=, this](auto&, int thread, Thread& state) {
      state.reference[0] = -INFINITY;
      for (int split = place.first + thread; split < place.last; split += kThreads) {
        state.reference[0] = fmaxf(state.reference[0], result.partial_rl[2 * row_of(place, split)]);
      }
    });
    block.template reduce<Maximum, kWarpLanes>(&Thread::reference);
    block.each([=](auto&, int thread, Thread& state) {
      if (thread % kWarpLanes == 0) shared[kReferences + thread / kWarpLanes] = state.reference[0];
    });
    block.sync();
    block.each([=, this](auto&, int thread, Thread& state) { add_splits(place, thread, state, shared); });
    block.sync();
    block.each([=, this](auto&, int thread, Thread&) {
      const int c = 4 * thread;
      if (c >= result.value_dim) return;
      Float4 o{};
      float sum = 0;
      ATTN_UNROLL
      for (int warp = 0; warp < kWarps; ++warp) {
        add(o, 1, *reinterpret_cast<const Float4*>(shared + warp * kWidest + c));
        sum += shared[kSums + warp];
      }
      result.write(place.b, place.head_kv, place.row, c, o, reference_of(shared), sum);
    });
  }

 private:
  ATTN_DEVICE Place place_of(int64_t index) const {
    const auto rows = static_cast<uint32_t>(result.rows()), heads = static_cast<uint32_t>(result.heads_kv);
    const uint32_t head = static_cast<uint32_t>(index) / rows;
    Place place;
    place.row = static_cast<int>(static_cast<uint32_t>(index) % rows);
    place.head_kv = static_cast<int>(head % heads);
    place.b = static_cast<int>(head / heads);
    place.first = starts[place.b];
    place.last = starts[place.b + 1];
    return place;
  }
  /// Of the partial results.
  ATTN_DEVICE int64_t row_of(const Place& place, int split) const {
    return (int64_t{split} * result.heads_kv + place.head_kv) * result.rows() + place.row;
  }
  ATTN_DEVICE static float reference_of(const float* shared) {
    float highest = -INFINITY;
    ATTN_UNROLL
    for (int warp = 0; warp < kWarps; ++warp) highest = fmaxf(highest, shared[kReferences + warp]);
    return highest;
  }

  ATTN_DEVICE void add_splits(const Place& place, int thread, Thread& state, float* shared) const {
    const int warp = thread / kWarpLanes, lane = thread % kWarpLanes;
    const float highest = reference_of(shared);
    state.sum = 0;
    ATTN_UNROLL
    for (int k = 0; k < kFours; ++k) state.o[k] = Float4{};
    ATTN_UNROLL_4
    for (int split = place.first + warp; split < place.last; split += kWarps) {
      const int64_t row = row_of(place, split);
      const Float2 partial = *reinterpret_cast<const Float2*>(result.partial_rl + 2 * row);
      const float factor = decode_factor(partial.x, highest);
      state.sum += factor * partial.y;
      ATTN_UNROLL
      for (int k = 0; k < kFours; ++k) {
        const int c = 4 * (lane + k * kWarpLanes);
        if (c >= result.value_dim) continue;
        add(state.o[k], factor,
            *reinterpret_cast<const Float4*>(result.partial_o + row * result.partial_stride + c));
      }
    }
    ATTN_UNROLL
    for (int k = 0; k < kFours; ++k) {
      *reinterpret_cast<Float4*>(shared + warp * kWidest + 4 * (lane + k * kWarpLanes)) = state.o[k];
    }
    if (lane == 0) shared[kSums + warp] = state.sum;
  }
};

}  // namespace attn
