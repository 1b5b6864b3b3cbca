// Verdicts: outputs against the truth.

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <stdexcept>

#include "harness/oracle/oracle.h"

namespace attn {
namespace {

/// On the bits: right whatever the compiler assumes of floating point.
bool is_nan(float value) { return (std::bit_cast<uint32_t>(value) & 0x7fffffffu) > 0x7f800000u; }
bool is_inf(float value) { return (std::bit_cast<uint32_t>(value) & 0x7fffffffu) == 0x7f800000u; }

void require_honest_nan() {
  volatile double zero = 0;
  const double nan = zero / zero;
  if (!std::isnan(nan) || nan == nan || nan < 1) {
    throw std::logic_error("the checker was built with unsafe floating point: NaN compares like a number");
  }
}

constexpr int64_t kManyElements = 1 << 20;  // worth waking threads for

struct Worst {
  double ratio = 0;
  int64_t element = 0;
  float found = 0;
  double expected = 0, bound = 0;
};

class TensorCheck {
 public:
  TensorCheck(const KnownTensor& tensor, const std::vector<float>& found) : tensor_(tensor), found_(found) {}

  /// Empty where the tensor agrees.
  std::string run() {
    const int64_t elements = tensor_.batch * tensor_.seq * tensor_.heads * tensor_.width;
    if (static_cast<int64_t>(found_.size()) != elements) {
      return fmt::format("{} has {} elements, expected {}", tensor_.name, found_.size(), elements);
    }
    if (std::string reason = check_numbers(); !reason.empty()) return reason;
    for (size_t n = 0; n < tensor_.rows.size(); ++n) {
      for (int64_t c = 0; c < tensor_.width; ++c) {
        check(tensor_.rows[n] * tensor_.width + c,
              n * static_cast<size_t>(tensor_.width) + static_cast<size_t>(c));
      }
    }
    if (worst.ratio <= 1) return "";
    if (std::all_of(found_.begin(), found_.end(), [](float value) { return value == 0; })) {
      return fmt::format("mistrusted: {} is zero everywhere", tensor_.name);
    }
    return fmt::format("{} is {:.9g}, expected {:.9g} within {:.2g}", place(worst.element), worst.found,
                       worst.expected, worst.bound);
  }

  Worst worst;
  double max_abs = 0;
  double rel_l2() const {
    return squares_ > 0 ? std::sqrt(error_squares_ / squares_) : std::sqrt(error_squares_);
  }

 private:
  bool is_lse() const { return tensor_.name == "lse"; }

  /// Every element, known or not; names the first that is no number.
  std::string check_numbers() const {
    const auto elements = static_cast<int64_t>(found_.size());
    const bool low_allowed = is_lse();
    int64_t first = elements;
#pragma omp parallel for schedule(static) reduction(min : first) if (elements > kManyElements)
    for (int64_t e = 0; e < elements; ++e) {
      const float value = found_[static_cast<size_t>(e)];
      const bool allowed = !is_nan(value) && (!is_inf(value) || (low_allowed && value < 0));
      if (!allowed) first = std::min(first, e);
    }
    if (first == elements) return "";
    const float value = found_[static_cast<size_t>(first)];
    return is_nan(value) ? fmt::format("{} is NaN", place(first))
                         : fmt::format("{} is {}", place(first), value);
  }

  void check(int64_t element, size_t known) {
    const float found = found_[static_cast<size_t>(element)];
    const double expected = tensor_.value[known], bound = tensor_.bound[known];
    if (std::isinf(expected) && expected == static_cast<double>(found)) return;  // LSE of an empty row
    const double error = std::abs(static_cast<double>(found) - expected);
    double ratio = bound > 0 ? error / bound : (error == 0 ? 0 : std::numeric_limits<double>::infinity());
    if (!(ratio >= 0)) ratio = std::numeric_limits<double>::infinity();
    max_abs = std::max(max_abs, error);
    error_squares_ += error * error;
    squares_ += expected * expected;
    if (ratio > worst.ratio) worst = {ratio, element, found, expected, bound};
  }

  std::string place(int64_t element) const {
    const int64_t c = element % tensor_.width, row = element / tensor_.width;
    const int64_t h = row % tensor_.heads, i = row / tensor_.heads % tensor_.seq;
    const int64_t b = row / tensor_.heads / tensor_.seq;
    if (is_lse()) return fmt::format("lse[b={},h={},i={}]", b, i, h);
    if (tensor_.name.starts_with("d_shaw") || tensor_.name == "d_t5_bias") {
      return fmt::format("{}[row={},column={}]", tensor_.name, i, c);
    }
    return fmt::format("{}[b={},i={},h={},c={}]", tensor_.name, b, i, h, c);
  }

  const KnownTensor& tensor_;
  const std::vector<float>& found_;
  double error_squares_ = 0;
  double squares_ = 0;
};

}  // namespace

Verdict compare(const Problem& problem, const Truth& truth, const Outputs<float>& outputs) {
  require_honest_nan();
  Verdict verdict{.ok = true};
  for (const KnownTensor& tensor : truth.tensors) {
    if (tensor.found == &Outputs<float>::lse && outputs.lse.empty()) continue;  // Info::gives_lse is false
    TensorCheck check(tensor, outputs.*tensor.found);
    std::string reason = check.run();
    verdict.worst = std::max(verdict.worst, check.worst.ratio);
    verdict.max_abs = std::max(verdict.max_abs, check.max_abs);
    const bool gradient = tensor.name.starts_with("d_");
    if (gradient == (problem.pass == Pass::bwd)) verdict.rel_l2 = std::max(verdict.rel_l2, check.rel_l2());
    if (reason.empty()) continue;
    if (verdict.ok) verdict.reason = std::move(reason);
    verdict.ok = false;
  }
  if (!verdict.ok) verdict.worst = std::max(verdict.worst, std::nextafter(1.0, 2.0));
  return verdict;
}

}  // namespace attn
