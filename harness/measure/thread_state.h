#pragma once
// What foreign code must leave as it was on every OpenMP thread: rounding, denormal numbers, and the number
// of threads. Changed by one variant, it would change the results and times of the next.

#include <cfenv>
#include <string>

namespace attn {

/// How a thread computes.
struct FloatMode {
  int rounding = 0;               ///< FE_TONEAREST, ...
  bool flushes_results = false;   ///< denormal results become zero (FTZ)
  bool flushes_operands = false;  ///< denormal operands count as zero (DAZ)

  bool operator==(const FloatMode&) const = default;
};
/// Of the calling thread, found by computing.
FloatMode float_mode();

class ThreadState {
 public:
  /// Sets the default number of threads, and remembers the calling thread's mode, which the others share.
  explicit ThreadState(int threads);
  /// Puts everything back on all threads. Returns what had changed, as text; empty: nothing.
  std::string restore() const;

 private:
  int threads_;
  FloatMode mode_;
  std::fenv_t environment_;
};

}  // namespace attn
