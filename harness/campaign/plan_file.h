#pragma once
// plan.csv as text: what its lines name need not exist in this build.

#include <string>
#include <vector>

namespace attn {

struct PlanLine {
  std::string id, threads, problem;
  std::vector<std::string> variants;

  std::string csv() const;  ///< without the end of the line
};

/// Throws UsageError where a line has other columns than Plan::kColumns.
std::vector<PlanLine> read_plan_lines(const std::string& path);

}  // namespace attn
