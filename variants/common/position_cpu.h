#pragma once
// Position terms prepared for CPU kernels: rotation tables and Toeplitz bias rows, float32, O(n) memory.

#include "harness/variant.h"

namespace attn {

/// cos and sin of every (position, channel pair) a problem needs.
class RopeTable {
 public:
  /// Books or takes the table; empty where the problem has no rotation.
  static RopeTable take(const Problem& problem, Workspace& workspace);
  void fill(const Problem& problem) const;  ///< for prepare()

  bool empty() const { return pairs_ == 0; }
  int64_t pairs() const { return pairs_; }
  bool interleaved() const { return interleaved_; }
  const float* cosine(int64_t position) const { return cosine_ + (position - first_position_) * pairs_; }
  const float* sine(int64_t position) const { return sine_ + (position - first_position_) * pairs_; }
  /// out = row rotated by `position`; `inverse` rotates back. In place is fine.
  void rotate(const float* row, float* out, int64_t position, bool inverse = false) const;

 private:
  float* cosine_ = nullptr;  // [positions, pairs]
  float* sine_ = nullptr;
  int64_t first_position_ = 0;
  int64_t positions_ = 0;
  int64_t pairs_ = 0;
  int64_t head_dim_ = 0;
  bool interleaved_ = false;
};

/// bias(head, i, j) as one row per head: `row(head)[i - j]`, so that it is contiguous along queries.
class ToeplitzBias {
 public:
  static ToeplitzBias take(const Problem& problem, Workspace& workspace);
  /// Bucket of each distance (T5), for prepare().
  void prepare(const Problem& problem) const;
  /// Fills the rows: from slopes (ALiBi) or the table (T5), times `factor`.
  void fill(const Problem& problem, const Tables& tables, double factor, int threads) const;
  /// d_t5_bias[bucket][head] += sums[i - j + seq_kv - 1] of one head.
  void add_table_gradient(const Problem& problem, int64_t head, const float* sums, float* d_t5_bias) const;

  bool empty() const { return rows_ == nullptr; }
  /// Elements per head: seq_q + seq_kv - 1.
  int64_t width() const { return width_; }
  /// Rows may be read in whole vectors up to here.
  int64_t padded_width() const { return width_ + kPadding; }
  /// Index of i - j = 0 in a row.
  int64_t zero() const { return zero_; }
  /// Index with i - j, from -(seq_kv - 1) to seq_q - 1.
  const float* row(int64_t head) const { return rows_ + head * padded_width() + zero_; }

 private:
  static constexpr int64_t kPadding = 64;
  float* rows_ = nullptr;       // [heads_q, padded width]
  int32_t* buckets_ = nullptr;  // [width]
  int64_t width_ = 0;
  int64_t zero_ = 0;
};

}  // namespace attn
