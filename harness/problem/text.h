#pragma once
// Small text helpers shared by the parsers of problem, mask, position and axes.

#include <cstdint>
#include <string_view>
#include <vector>

namespace attn {

std::vector<std::string_view> split(std::string_view text, char separator);
/// A whole number without sign; throws UsageError naming `what` where the text is anything else or exceeds
/// 2^40.
int64_t parse_count(std::string_view text, std::string_view what);
/// A finite number; throws UsageError naming `what`.
double parse_number(std::string_view text, std::string_view what);
/// Words as a shell reads them back.
std::string shell_line(const std::vector<std::string>& words);

}  // namespace attn
