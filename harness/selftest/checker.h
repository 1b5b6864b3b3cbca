#pragma once
// The checker held against kernels that are known to be wrong, and to be right.

#include <cstdint>

namespace attn {

struct CheckerTest {
  bool list = false;       ///< print what rejected each mutant
  int64_t problems = 200;  ///< random ones, for every exact variant on the CPU
  uint64_t seed = 1;
  int threads = 2;
};

/// Planted errors must be rejected, correct variants accepted. Prints the score; true where all is so.
bool test_checker(const CheckerTest& test);

}  // namespace attn
