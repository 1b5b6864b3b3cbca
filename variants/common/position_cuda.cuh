#pragma once
// Position terms prepared for GPU kernels: copies of Q and K rotated by position, and Toeplitz bias rows.
// Float32, O(n) memory. Shaw tables need no preparation.

#include <algorithm>
#include <vector>

#include "harness/variant.h"
#include "variants/common/gpu_tensor.cuh"

namespace attn {

/// Rotates rows of one operand into a contiguous float32 copy, by position `first + row`.
template <class T>
struct RotateRows {
  GpuTensor<const T> from;
  float* to;            // [batch, seq, heads, head_dim]
  const float* cosine;  // [positions, pairs], row 0 at position `first_position`
  const float* sine;
  int64_t seq, heads, head_dim, pairs;
  int64_t shift;  ///< row of the tables for sequence element 0
  bool interleaved;

  /// One channel pair of one row; the last pair of an odd width also moves the channel that is not rotated.
  ATTN_DEVICE void operator()(int64_t index) const {
    const int64_t m = index % pairs, row = index / pairs;
    const int64_t h = row % heads, i = row / heads % seq, b = row / heads / seq;
    const T* source = from.row(b, i, h);
    float* out = to + row * head_dim;
    const ChannelPair channel = rope_channels(interleaved, head_dim, m);
    const float x = to_float(source[channel.first]), y = to_float(source[channel.second]);
    const float c = cosine[(shift + i) * pairs + m], s = sine[(shift + i) * pairs + m];
    out[channel.first] = x * c - y * s;
    out[channel.second] = x * s + y * c;
    if (m == 0 && head_dim % 2 == 1) out[head_dim - 1] = to_float(source[head_dim - 1]);
  }
};

/// Rotates rows of a gradient back where they lie.
struct RotateRowsBack {
  GpuTensor<float> rows;
  const float* cosine;  // as RotateRows
  const float* sine;
  int64_t seq, heads, head_dim, pairs;
  int64_t shift;
  bool interleaved;

  ATTN_DEVICE void operator()(int64_t index) const {
    const int64_t m = index % pairs, row = index / pairs;
    const int64_t h = row % heads, i = row / heads % seq, b = row / heads / seq;
    float* gradient = rows.row(b, i, h);
    const ChannelPair channel = rope_channels(interleaved, head_dim, m);
    const float x = gradient[channel.first], y = gradient[channel.second];
    const float c = cosine[(shift + i) * pairs + m], s = sine[(shift + i) * pairs + m];
    gradient[channel.first] = x * c + y * s;
    gradient[channel.second] = y * c - x * s;
  }
};

/// Cosine and sine of every position and channel pair. All zero without RoPE.
struct RopeAngles {
  float* cosine = nullptr;  // [positions, pairs]
  float* sine = nullptr;
  int64_t first_position = 0;  ///< of row 0
  int64_t positions = 0, pairs = 0;

  static RopeAngles take(const Problem& p, Workspace& workspace) {
    RopeAngles angles;
    if (!p.position.rope()) return angles;
    angles.first_position = std::min(p.offset(), int64_t{0});
    angles.positions = std::max(p.seq_q, p.seq_kv);
    angles.pairs = p.head_dim / 2;
    angles.cosine = workspace.take<float>("rope cosine", angles.positions * angles.pairs);
    angles.sine = workspace.take<float>("rope sine", angles.positions * angles.pairs);
    return angles;
  }

  /// Of the tables, for a position.
  int64_t row(int64_t position) const { return position - first_position; }

  /// In float64 on the host: positions reach 2^20, where a float32 angle is off by 0.06.
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    if (pairs == 0) return;
    std::vector<float> cosines(static_cast<size_t>(positions * pairs)), sines(cosines.size());
    for (int64_t m = 0; m < pairs; ++m) {
      const double step = rope_angle(p.position.base, p.head_dim, m, 1);
      for (int64_t t = 0; t < positions; ++t) {
        const double angle = static_cast<double>(first_position + t) * step;
        cosines[static_cast<size_t>(t * pairs + m)] = static_cast<float>(std::cos(angle));
        sines[static_cast<size_t>(t * pairs + m)] = static_cast<float>(std::sin(angle));
      }
    }
    queue.upload(cosine, cosines.data(), cosines.size() * sizeof(float));
    queue.upload(sine, sines.data(), sines.size() * sizeof(float));
  }
};

class DeviceRope {
 public:
  static DeviceRope take(const Problem& p, Workspace& workspace) {
    DeviceRope rope;
    if (!p.position.rope()) return rope;
    rope.angles_ = RopeAngles::take(p, workspace);
    rope.q_ = workspace.take<float>("rotated q", p.batch * p.seq_q * p.heads_q * p.head_dim);
    rope.k_ = workspace.take<float>("rotated k", p.batch * p.seq_kv * p.heads_kv * p.head_dim);
    return rope;
  }

  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    angles_.prepare(queue, p);
  }

  /// Fills the copies, which then stand for q and k.
  template <class T, class Queue>
  void rotate(const Queue& queue, const Problem& p, GpuTensor<const T> q, GpuTensor<const T> k) const {
    const bool interleaved = p.position.kind == PositionKind::rope_interleaved;
    queue.for_each(p.batch * p.seq_q * p.heads_q * angles_.pairs,
                   RotateRows<T>{q, q_, angles_.cosine, angles_.sine, p.seq_q, p.heads_q, p.head_dim,
                                 angles_.pairs, angles_.row(p.offset()), interleaved});
    queue.for_each(p.batch * p.seq_kv * p.heads_kv * angles_.pairs,
                   RotateRows<T>{k, k_, angles_.cosine, angles_.sine, p.seq_kv, p.heads_kv, p.head_dim,
                                 angles_.pairs, angles_.row(0), interleaved});
  }

  /// The gradients of the rotated q and k become those of q and k.
  template <class Queue>
  void rotate_back(const Queue& queue, const Problem& p, GpuTensor<float> d_q, GpuTensor<float> d_k) const {
    const bool interleaved = p.position.kind == PositionKind::rope_interleaved;
    queue.for_each(p.batch * p.seq_q * p.heads_q * angles_.pairs,
                   RotateRowsBack{d_q, angles_.cosine, angles_.sine, p.seq_q, p.heads_q, p.head_dim,
                                  angles_.pairs, angles_.row(p.offset()), interleaved});
    queue.for_each(p.batch * p.seq_kv * p.heads_kv * angles_.pairs,
                   RotateRowsBack{d_k, angles_.cosine, angles_.sine, p.seq_kv, p.heads_kv, p.head_dim,
                                  angles_.pairs, angles_.row(0), interleaved});
  }

  bool empty() const { return angles_.pairs == 0; }
  GpuTensor<const float> q(const Problem& p) const {
    return gpu_contiguous<const float>(q_, p.seq_q, p.heads_q, p.head_dim);
  }
  GpuTensor<const float> k(const Problem& p) const {
    return gpu_contiguous<const float>(k_, p.seq_kv, p.heads_kv, p.head_dim);
  }

 private:
  RopeAngles angles_;
  float *q_ = nullptr, *k_ = nullptr;
};

/// Columns of the Shaw tables that some pair of the problem uses: [first, first + count).
struct ShawColumns {
  int64_t first = 0;
  int64_t count = 0;

  static ShawColumns of(const Problem& p) {
    if (!p.position.shaw() || p.seq_kv == 0) return {};
    const int64_t first = shaw_index(p.position.clip, -(p.seq_q - 1) - p.offset());
    const int64_t last = shaw_index(p.position.clip, p.seq_kv - 1 - p.offset());
    return {first, last - first + 1};
  }
};

/// bias(head, i, j) = rows[head * width + i - j + zero]; null: no bias.
struct BiasRows {
  const float* rows = nullptr;
  int64_t width = 0;
  int64_t zero = 0;  ///< place of i = j: seq_kv - 1, and what stands in front of the row

  ATTN_DEVICE const float* head(int64_t h) const { return rows + h * width + zero; }
};

/// The same by head and e = i - j + seq_kv - 1, without the rows.
struct DistanceBias {
  const float* slopes = nullptr;     // [heads], ALiBi
  const int32_t* buckets = nullptr;  // [seq_q + seq_kv - 1], T5
  const float* table = nullptr;      // [buckets, heads], T5
  int64_t heads = 0, seq_q = 0;

  ATTN_DEVICE bool none() const { return !slopes && !table; }
  ATTN_DEVICE float of(int64_t head, int64_t e) const {
    const int64_t distance = seq_q - 1 - e;  // j - (i + o)
    return table ? table[buckets[e] * heads + head]
                 : -slopes[head] * static_cast<float>(distance < 0 ? -distance : distance);
  }
};

struct FillBias {
  float* rows;  // [heads, width]
  int64_t width;
  int64_t front, count;  ///< zeros in front of the biases, and how many of those there are
  float factor;
  DistanceBias bias;

  ATTN_DEVICE void operator()(int64_t index) const {
    const int64_t e = index % width - front;
    rows[index] = e >= 0 && e < count ? factor * bias.of(index / width, e) : 0.0f;
  }
};

/// What DistanceBias reads.
class DeviceDistances {
 public:
  static DeviceDistances take(const Problem& p, Workspace& workspace) {
    DeviceDistances distances;
    if (p.position.t5()) {
      distances.buckets_ = workspace.take<int32_t>("t5 buckets", p.seq_q + p.seq_kv - 1);
    } else if (p.position.toeplitz()) {
      distances.slopes_ = workspace.take<float>("alibi slopes", p.heads_q);
    }
    return distances;
  }

  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    if (buckets_) {
      std::vector<int32_t> buckets(static_cast<size_t>(p.seq_q + p.seq_kv - 1));
      int64_t distance = p.seq_q - 1;
      for (int32_t& bucket : buckets) bucket = static_cast<int32_t>(p.position.t5_bucket(distance--));
      queue.upload(buckets_, buckets.data(), buckets.size() * sizeof(int32_t));
    }
    if (slopes_) {
      std::vector<float> slopes;
      for (int64_t h = 0; h < p.heads_q; ++h) slopes.push_back(static_cast<float>(alibi_slope(p.heads_q, h)));
      queue.upload(slopes_, slopes.data(), slopes.size() * sizeof(float));
    }
  }

  DistanceBias bias(const Problem& p, const Tables& tables) const {
    return {slopes_, buckets_, buckets_ ? tables.t5_bias : nullptr, p.heads_q, p.seq_q};
  }
  /// Of every e; null where the bias has no table.
  const int32_t* buckets() const { return buckets_; }
  /// Of every head; null but for ALiBi.
  const float* slopes() const { return slopes_; }

 private:
  float* slopes_ = nullptr;
  int32_t* buckets_ = nullptr;
};

class DeviceBias {
 public:
  /// With `front` zeros in front of each row and at least `back` behind it, for tiles that reach beyond; then
  /// rows are a multiple of 16 bytes long.
  static DeviceBias take(const Problem& p, Workspace& workspace, int64_t front = 0, int64_t back = 0) {
    DeviceBias bias;
    if (!p.position.toeplitz()) return bias;
    bias.front_ = front;
    bias.width_ = front + p.seq_q + p.seq_kv - 1 + back;
    if (back > 0) bias.width_ = (bias.width_ + 3) / 4 * 4;
    bias.rows_ = workspace.take<float>("bias by distance", p.heads_q * bias.width_);
    bias.distances_ = DeviceDistances::take(p, workspace);
    return bias;
  }

  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    distances_.prepare(queue, p);
  }

  template <class Queue>
  BiasRows fill(const Queue& queue, const Problem& p, const Tables& tables, float factor = 1) const {
    if (!rows_) return {};
    queue.for_each(p.heads_q * width_, FillBias{rows_, width_, front_, p.seq_q + p.seq_kv - 1, factor,
                                                distances_.bias(p, tables)});
    return {rows_, width_, front_ + p.seq_kv - 1};
  }
  /// Of every element of a bias row; null where the bias has no table.
  const int32_t* buckets() const { return distances_.buckets(); }
  const float* slopes() const { return distances_.slopes(); }

 private:
  float* rows_ = nullptr;
  int64_t width_ = 0, front_ = 0;
  DeviceDistances distances_;
};

}  // namespace attn
