// Values of an axis, one text a line.

#include <algorithm>

#include "harness/campaign/axes.h"
#include "harness/problem/text.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace attn;
  std::vector<std::string> texts;
  for (std::string_view line : split(text_of(data, size), '\n')) texts.emplace_back(line);
  std::vector<int64_t> values;
  if (!accepts([&] { values = parse_axis("n", texts); })) return 0;
  require(std::is_sorted(values.begin(), values.end()));
  require(values.empty() || (values.front() >= 1 && values.back() <= int64_t{1} << 31));
  return 0;
}
