#include "harness/campaign/axes.h"

#include <fmt/format.h>

#include <charconv>
#include <set>

#include "harness/problem/error.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

constexpr int64_t kLargest = int64_t{1} << 31;
constexpr size_t kMostValues = 1000;

class AxisParser {
 public:
  explicit AxisParser(const std::string& axis) : axis_(axis) {}

  void add(std::string_view text) {
    const auto parts = split(text, ':');
    if (parts.size() == 1) {
      values_.insert(number(parts[0], text));
    } else if (parts.size() == 3 && parts[2].size() >= 2) {
      add_range(number(parts[0], text), number(parts[1], text), parts[2], text);
    } else {
      fail(text);
    }
  }
  std::vector<int64_t> values() const { return {values_.begin(), values_.end()}; }

 private:
  [[noreturn]] void fail(std::string_view text) const {
    throw UsageError(
        fmt::format("--{} '{}' is not understood: use a number from 1 to 2^31, first:last:x2 or "
                    "first:last:+64, at most {} values",
                    axis_, text, kMostValues));
  }

  int64_t number(std::string_view digits, std::string_view text) const {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    const bool whole = error == std::errc() && end == digits.data() + digits.size();
    if (!whole || value < 1 || value > kLargest) fail(text);
    return value;
  }

  void add_range(int64_t first, int64_t last, std::string_view step, std::string_view text) {
    const bool multiply = step[0] == 'x';
    if (!multiply && step[0] != '+') fail(text);
    const int64_t by = number(step.substr(1), text);
    if (last < first || (multiply && by < 2)) fail(text);
    // Both operands are at most 2^31: neither sum nor product overflows.
    for (int64_t value = first; value <= last; value = multiply ? value * by : value + by) {
      values_.insert(value);
      if (values_.size() > kMostValues) fail(text);
    }
  }

  const std::string& axis_;
  std::set<int64_t> values_;
};

}  // namespace

std::vector<int64_t> parse_axis(const std::string& axis, const std::vector<std::string>& texts) {
  AxisParser parser(axis);
  for (const std::string& text : texts) parser.add(text);
  return parser.values();
}

}  // namespace attn
