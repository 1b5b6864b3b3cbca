#pragma once
// Relative position terms. Query i stands at i + o with o = seq_kv - seq_q; `distance` is always key minus
// query, j - (i + o). Sources: Shaw et al. 2018, Press et al. 2022 (ALiBi), Raffel et al. 2020 (T5), Su et
// al. 2021 (RoPE).

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "harness/problem/mask.h"

namespace attn {

enum class PositionKind { none, shaw, shaw_keys, alibi, t5, t5_causal, rope, rope_interleaved };

/// The position field of a problem.
///   none
///   shaw:K             S += tau q.aK[clip(distance)], O += sum P aV[clip(distance)]; clip(t) = min(max(t,
///   -K), K) + K shaw-keys:K        the key term alone: softmax((QK^T + Q r^T) tau) V in its relative reading
///   alibi              S -= slope(head) |distance|
///   t5:BUCKETS:MAX     S += B[bucket(distance)][head], bidirectional
///   t5-causal:BUCKETS:MAX   unidirectional: keys after the query share bucket 0
///   rope:BASE          q and k rotated by position, channel pairs (m, m + d/2)
///   rope-interleaved:BASE   pairs (2m, 2m + 1)
/// The Shaw key term changes the key, so it is inside the softcap; ALiBi and T5 are biases, added after it.
struct Position {
  PositionKind kind = PositionKind::none;
  int64_t clip = 0;          ///< Shaw
  int64_t buckets = 0;       ///< T5
  int64_t max_distance = 0;  ///< T5
  double base = 0;           ///< RoPE

  static Position parse(std::string_view text);  ///< throws UsageError
  std::string text() const;

  bool shaw() const { return kind == PositionKind::shaw || kind == PositionKind::shaw_keys; }
  bool shaw_values() const { return kind == PositionKind::shaw; }
  bool t5() const { return kind == PositionKind::t5 || kind == PositionKind::t5_causal; }
  bool rope() const { return kind == PositionKind::rope || kind == PositionKind::rope_interleaved; }
  /// A bias that depends on head and distance alone: one row of seq_q + seq_kv - 1 numbers per head.
  bool toeplitz() const { return kind == PositionKind::alibi || t5(); }
  /// Rows of the Shaw tables.
  int64_t shaw_rows() const { return 2 * clip + 1; }

  /// Bucket of a distance; kind must be t5 or t5_causal. Integer thresholds, as the exact ties demand.
  int64_t t5_bucket(int64_t distance) const;
};

/// Row of the Shaw tables for a distance.
ATTN_HOST_DEVICE inline int64_t shaw_index(int64_t clip, int64_t distance) {
  const int64_t clipped = distance < -clip ? -clip : (distance > clip ? clip : distance);
  return clipped + clip;
}

/// ALiBi slope of a head: 2^(-8(a+1)/h) for h a power of two, else the slopes of the next lower power of two
/// followed by every second slope of twice that.
double alibi_slope(int64_t heads, int64_t head);

/// Angle in radians by which channel pair `pair` is rotated at `position`; float64 because positions reach
/// 2^20.
inline double rope_angle(double base, int64_t head_dim, int64_t pair, int64_t position) {
  const int64_t rotary_dim = head_dim / 2 * 2;  // an odd last channel is not rotated
  return static_cast<double>(position) *
         std::pow(base, -2.0 * static_cast<double>(pair) / static_cast<double>(rotary_dim));
}

/// The two channels of pair m.
struct ChannelPair {
  int64_t first;
  int64_t second;
};
ATTN_HOST_DEVICE inline ChannelPair rope_channels(bool interleaved, int64_t head_dim, int64_t pair) {
  if (interleaved) return {2 * pair, 2 * pair + 1};
  return {pair, pair + head_dim / 2};
}

}  // namespace attn
