#include "harness/measure/thread_state.h"

#include <fmt/format.h>
#include <omp.h>

#include <bit>
#include <cfloat>
#include <cstdint>

namespace attn {
namespace {

bool is_zero(float value) { return (std::bit_cast<uint32_t>(value) << 1) == 0; }

std::string describe(const FloatMode& mode) {
  std::string text = mode.rounding == FE_TONEAREST ? "" : "another rounding";
  for (const auto& [set, name] : {std::pair{mode.flushes_results, "denormal results flushed"},
                                  std::pair{mode.flushes_operands, "denormal operands flushed"}}) {
    if (set) text += fmt::format("{}{}", text.empty() ? "" : ", ", name);
  }
  return text.empty() ? "the default" : text;
}

}  // namespace

FloatMode float_mode() {
  // Volatile: computed here and now, in the mode of this moment.
  volatile float smallest = FLT_MIN, denormal = FLT_TRUE_MIN, half = 0.5f, large = 0x1p60f;
  const float below = smallest * half, normal = denormal * large;
  return {std::fegetround(), is_zero(below), is_zero(normal)};
}

ThreadState::ThreadState(int threads) : threads_(threads), mode_(float_mode()) {
  omp_set_num_threads(threads);
  std::fegetenv(&environment_);
}

std::string ThreadState::restore() const {
  std::string changed;
  if (const int found = omp_get_max_threads(); found != threads_) {
    omp_set_num_threads(threads_);
    changed = fmt::format("the number of OpenMP threads ({} to {})", threads_, found);
  }
  FloatMode found = mode_;
#pragma omp parallel num_threads(threads_)
  {
    const FloatMode mine = float_mode();
    if (mine != mode_) {
      std::fesetenv(&environment_);
#pragma omp critical(attn_thread_state)
      found = mine;
    }
  }
  if (found != mode_) {
    changed +=
        fmt::format("{}the floating-point mode (to {})", changed.empty() ? "" : " and ", describe(found));
  }
  return changed;
}

}  // namespace attn
