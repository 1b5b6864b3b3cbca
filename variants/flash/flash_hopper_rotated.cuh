#pragma once
// RoPE ahead of the Hopper kernels: K, or Q and K, rotated in float32 and rounded to their own type, into
// rows that TMA can read. One pass over each.

#include "variants/flash/flash_hopper_args.cuh"

namespace attn {

/// Neighbouring 16-bit numbers, read and written at once.
template <int kChannels>
struct alignas(2 * kChannels) PackedChannels {
  uint32_t pairs[kChannels / 2];
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
  using Floats = PairNumbers<kChannels>;

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
      rotate_pairs<true>(c, s, channels);
    } else {
      rotate_pairs<false>(c, s, channels);
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
  ATTN_DEVICE static void write(const float* channels, T* to) {
    Packed packed;
    ATTN_UNROLL
    for (int k = 0; k < kChannels / 2; ++k) packed.pairs[k] = pack<T>(channels[2 * k], channels[2 * k + 1]);
    *reinterpret_cast<Packed*>(to) = packed;
  }
};

/// What is rotated ahead of the kernel.
enum class RotatedAhead { k, q_and_k };

/// The angles, and where rotated operands go.
struct RotatedOperands {
  RopeAngles angles;
  uint16_t *q = nullptr, *k = nullptr;  ///< contiguous; no q where it is not rotated ahead

  static RotatedOperands take(const Problem& p, RotatedAhead ahead, Workspace& workspace) {
    RotatedOperands rotated{RopeAngles::take(p, workspace)};
    if (ahead == RotatedAhead::q_and_k)
      rotated.q = workspace.take<uint16_t>("rotated q", p.batch * p.seq_q * p.heads_q * p.head_dim);
    rotated.k = workspace.take<uint16_t>("rotated k", p.batch * p.seq_kv * p.heads_kv * p.head_dim);
    return rotated;
  }
};

template <RotatedAhead kAhead>
struct RotatedScratch {
  HopperScratch hopper;
  RotatedOperands rotated;

  static RotatedScratch take(const Problem& p, Workspace& workspace, const HopperTiles& tiles) {
    RotatedScratch scratch{HopperScratch::take(p, workspace, tiles)};
    scratch.rotated = RotatedOperands::take(p, kAhead, workspace);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    hopper.prepare(queue, p);
    rotated.angles.prepare(queue, p);
  }
};

/// Enqueues the rotation of a tensor whose first row has row `shift` of the tables. Returns the rotated one.
template <class T, class Queue>
ConstTensor rotate_tensor(const Queue& queue, const Problem& p, const RopeAngles& angles,
                          const ConstTensor& tensor, uint16_t* to, int64_t seq, int64_t heads,
                          int64_t shift) {
  const auto from = gpu_tensor<const T>(tensor);
  const auto enqueue = [&](auto pairs) {
    using Kernel = RotateChannels<T, decltype(pairs)::value>;
    queue.for_each(
        Kernel::count(p.batch, seq, heads, p.head_dim),
        Kernel{from, reinterpret_cast<T*>(to), angles.cosine, angles.sine, seq, heads, p.head_dim, shift,
               p.position.kind == PositionKind::rope_interleaved, from.aligned(p.head_dim)});
  };
  if (p.head_dim % 16 == 0) {
    enqueue(std::integral_constant<int, 8>());
  } else {
    enqueue(std::integral_constant<int, 4>());
  }
  return contiguous<const void>(to, seq, heads, p.head_dim);
}
/// Of Forward or Backward: returns what the kernels then work on.
template <class T, class Queue, class Arguments>
Arguments rotate_ahead(const Queue& queue, const Problem& p, Arguments arguments,
                       const RotatedOperands& rotated) {
  const RopeAngles& angles = rotated.angles;
  arguments.k =
      rotate_tensor<T>(queue, p, angles, arguments.k, rotated.k, p.seq_kv, p.heads_kv, angles.row(0));
  if (rotated.q)
    arguments.q = rotate_tensor<T>(queue, p, angles, arguments.q, rotated.q, p.seq_q, p.heads_q,
                                   angles.row(p.offset()));
  return arguments;
}
/// For the kernels, of rows that start at `position`.
inline HopperRope hopper_rope(const Problem& p, const RopeAngles& angles, int64_t position) {
  return {angles.cosine, angles.sine, static_cast<uint32_t>(angles.row(position)),
          static_cast<int>(angles.pairs), p.position.kind == PositionKind::rope_interleaved};
}

/// What is rotated ahead is read and written once more; each row rotated anywhere reads its angles.
inline Cost rotated_cost(const Problem& p, const HopperTiles& tiles, RotatedAhead ahead) {
  Cost cost = hopper_cost(p, tiles);
  const auto width = static_cast<double>(p.head_dim),
             queries = static_cast<double>(p.batch * p.heads_q * p.seq_q),
             keys = static_cast<double>(p.batch * p.heads_kv * p.seq_kv);
  const double copied = keys + (ahead == RotatedAhead::q_and_k ? queries : 0);
  cost.bytes_moved += 2 * 2 * width * copied + 4 * width * (queries + keys);
  return cost;
}

/// Half the distance between numbers of the type.
inline OperandRounding rotated_rounding(const Problem& p) { return {epsilon_of(p.dtype) / 2, 0, true}; }

}  // namespace attn
