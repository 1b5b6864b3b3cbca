// The canonical text of a problem. What is accepted reads back as itself, and its counts neither overflow nor
// take long.

#include "harness/problem/problem.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace attn;
  Problem problem;
  if (!accepts([&] { problem = Problem::parse(text_of(data, size)); })) return 0;
  const std::string canonical = problem.text();
  require(Problem::parse(canonical).text() == canonical);
  const double visible = density(problem);
  require(visible >= 0 && visible <= 1);
  return 0;
}
