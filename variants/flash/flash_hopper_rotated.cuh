#pragma once
// RoPE ahead of the Hopper kernels: Q and K rotated in float32 and rounded to their own type, into rows that
// TMA can read. One pass over each.

#include "variants/flash/flash_hopper_args.cuh"

namespace attn {

/// Neighbouring 16-bit numbers, read and written at once.
template <int kChannels>
struct alignas(2 * kChannels) PackedChannels {
  uint32_t pairs[kChannels / 2];
};
template <int kChannels>
struct alignas(16) FloatChannels {
  float of[kChannels];
};

/// Rotates rows of one operand, by the angles of row `shift + row` of the tables. A thread has kChannels
/// pairs: those of channels that are neighbours, or of two runs of kChannels half a row apart.
template <class T, int kChannels>
struct RotateChannels {
  GpuTensor<const T> from;
  T* to;                // [batch, seq, heads, head_dim]
  const float* cosine;  // [positions, head_dim / 2]
  const float* sine;
  int64_t seq, heads, head_dim;
  int64_t shift;
  bool interleaved;
  bool aligned;  ///< rows of `from` to 16 bytes

  using Packed = PackedChannels<kChannels>;
  using Floats = FloatChannels<kChannels>;

  /// Of all threads.
  static int64_t count(int64_t batch, int64_t seq, int64_t heads, int64_t head_dim) {
    return batch * seq * heads * (head_dim / (2 * kChannels));
  }

  ATTN_DEVICE void operator()(int64_t index) const {
    const int64_t units = head_dim / (2 * kChannels), row = index / units;
    const auto first_pair = static_cast<int>(index % units) * kChannels;
    const int64_t h = row % heads, i = row / heads % seq, b = row / heads / seq;
    const int64_t first = interleaved ? 2 * first_pair : first_pair,
                  second = first + (interleaved ? kChannels : head_dim / 2);
    const T* source = from.row(b, i, h);
    float channels[2 * kChannels];
    read(source + first, channels);
    read(source + second, channels + kChannels);
    const int64_t angles = (shift + i) * (head_dim / 2) + first_pair;
    const Floats c = *reinterpret_cast<const Floats*>(cosine + angles),
                 s = *reinterpret_cast<const Floats*>(sine + angles);
    if (interleaved) {
      rotate<true>(c, s, channels);
    } else {
      rotate<false>(c, s, channels);
    }
    T* out = to + row * head_dim;
    write(channels, out + first);
    write(channels + kChannels, out + second);
  }

 private:
  ATTN_DEVICE void read(const T* source, float* channels) const {
    if (aligned) {
      const Packed packed = *reinterpret_cast<const Packed*>(source);
      ATTN_UNROLL
      for (int k = 0; k < kChannels; ++k) channels[k] = to_float(half_of<T>(packed.pairs[k / 2], k % 2));
    } else {
      ATTN_UNROLL
      for (int k = 0; k < kChannels; ++k) channels[k] = to_float(source[k]);
    }
  }
  template <bool kInterleaved>
  ATTN_DEVICE static void rotate(const Floats& c, const Floats& s, float (&channels)[2 * kChannels]) {
    ATTN_UNROLL
    for (int k = 0; k < kChannels; ++k) {
      const ChannelPair pair = rope_channels(kInterleaved, 2 * kChannels, k);
      const float x = channels[pair.first], y = channels[pair.second];
      channels[pair.first] = x * c.of[k] - y * s.of[k];
      channels[pair.second] = x * s.of[k] + y * c.of[k];
    }
  }
  ATTN_DEVICE static void write(const float* channels, T* to) {
    Packed packed;
    ATTN_UNROLL
    for (int k = 0; k < kChannels / 2; ++k) packed.pairs[k] = pack<T>(channels[2 * k], channels[2 * k + 1]);
    *reinterpret_cast<Packed*>(to) = packed;
  }
};

/// The workspace of flash/cuda/hopper/rotated.
struct RotatedScratch {
  HopperScratch hopper;
  RopeAngles angles;
  uint16_t *q = nullptr, *k = nullptr;  ///< rotated, contiguous

  static RotatedScratch take(const Problem& p, Workspace& workspace) {
    RotatedScratch scratch;
    scratch.hopper = HopperScratch::take(p, workspace);
    scratch.angles = RopeAngles::take(p, workspace);
    scratch.q = workspace.take<uint16_t>("rotated q", p.batch * p.seq_q * p.heads_q * p.head_dim);
    scratch.k = workspace.take<uint16_t>("rotated k", p.batch * p.seq_kv * p.heads_kv * p.head_dim);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    hopper.prepare(queue, p);
    angles.prepare(queue, p);
  }
};

template <class T, int kChannels, class Queue>
void rotate_operands(const Queue& queue, const Problem& p, const Forward& forward,
                     const RotatedScratch& scratch) {
  const bool interleaved = p.position.kind == PositionKind::rope_interleaved;
  const auto rotate = [&](const ConstTensor& tensor, uint16_t* to, int64_t seq, int64_t heads,
                          int64_t first_position) {
    const auto from = gpu_tensor<const T>(tensor);
    using Kernel = RotateChannels<T, kChannels>;
    queue.for_each(Kernel::count(p.batch, seq, heads, p.head_dim),
                   Kernel{from, reinterpret_cast<T*>(to), scratch.angles.cosine, scratch.angles.sine, seq,
                          heads, p.head_dim, first_position - scratch.angles.first_position, interleaved,
                          from.aligned(p.head_dim)});
  };
  rotate(forward.q, scratch.q, p.seq_q, p.heads_q, p.offset());
  rotate(forward.k, scratch.k, p.seq_kv, p.heads_kv, 0);
}

/// Enqueues the rotation. Returns what the forward then works on.
template <class T, class Queue>
Forward rotated_forward(const Queue& queue, const Problem& p, const Forward& forward,
                        const RotatedScratch& scratch) {
  if (p.head_dim % 16 == 0) {
    rotate_operands<T, 8>(queue, p, forward, scratch);
  } else {
    rotate_operands<T, 4>(queue, p, forward, scratch);
  }
  Forward rotated = forward;
  rotated.q = contiguous<const void>(scratch.q, p.seq_q, p.heads_q, p.head_dim);
  rotated.k = contiguous<const void>(scratch.k, p.seq_kv, p.heads_kv, p.head_dim);
  return rotated;
}

/// Of Q and K, which are read and written once more, with the tables of angles.
inline Cost rotated_cost(const Problem& p, const HopperTiles& tiles) {
  Cost cost = hopper_cost(p, tiles);
  const double rows = static_cast<double>(p.batch) *
                      static_cast<double>(p.seq_q * p.heads_q + p.seq_kv * p.heads_kv),
               angles = static_cast<double>(p.seq_q + p.seq_kv) * static_cast<double>(p.head_dim / 2);
  cost.bytes_moved += 2 * 2 * static_cast<double>(p.head_dim) * rows + 2 * 4 * angles;
  return cost;
}

/// Half the distance between numbers of the type.
inline OperandRounding rotated_rounding(const Problem& p) { return {epsilon_of(p.dtype) / 2, 0, true}; }

}  // namespace attn
