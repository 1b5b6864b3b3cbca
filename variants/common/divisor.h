#pragma once
// Division by a number that the host knows: a multiplication and a shift. Dividing by a variable takes a GPU
// some twenty instructions, each waiting for the one before. Granlund and Montgomery 1994, section 4.

#include <cstdint>

#include "harness/problem/mask.h"

namespace attn {

/// Numerators and divisors are below 2^31.
class Divisor {
 public:
  Divisor() = default;
  /// 0 counts as 1: for nothing to divide.
  explicit Divisor(uint32_t by) : divisor_(by == 0 ? 1 : by) {
    while ((uint64_t{1} << (shift_ - 31)) < divisor_) ++shift_;
    factor_ = static_cast<uint32_t>(((uint64_t{1} << shift_) + divisor_ - 1) / divisor_);
  }

  ATTN_HOST_DEVICE uint32_t quotient(uint32_t numerator) const {
    return static_cast<uint32_t>(uint64_t{numerator} * factor_ >> shift_);
  }
  ATTN_HOST_DEVICE uint32_t remainder(uint32_t numerator, uint32_t quotient) const {
    return numerator - quotient * divisor_;
  }

 private:
  uint32_t divisor_ = 1, factor_ = uint32_t{1} << 31;
  int shift_ = 31;
};

}  // namespace attn
