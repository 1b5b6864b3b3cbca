#pragma once
// What a variant's products make of their operands, beyond the storage type: the bound of its results follows
// from it (harness/oracle/bound.h).

#include <compare>

namespace attn {

/// Largest relative changes. Of a pair of channels that RoPE rotates: relative to the length of the pair.
struct OperandRounding {
  double scores = 0;   ///< of Q and of K in Q K^T
  double outputs = 0;  ///< of P and of V in P V
  /// Q and K are rounded to the nearest number: the errors of a score's channels are independent, without a
  /// direction in common.
  bool to_nearest = false;

  bool none() const { return scores == 0 && outputs == 0; }
  auto operator<=>(const OperandRounding&) const = default;
};

}  // namespace attn
