#pragma once
// Values of an axis: numbers and ranges. `64`, `128:16384:x2` (multiply), `64:512:+64` (add); the end is
// included where the steps meet it.

#include <cstdint>
#include <string>
#include <vector>

namespace attn {

/// The values of all texts, ascending, without repeats. Throws UsageError naming the axis for anything that
/// is not a number of 1 to 2^31 or a range of at most 1000 values.
std::vector<int64_t> parse_axis(const std::string& axis, const std::vector<std::string>& texts);

}  // namespace attn
