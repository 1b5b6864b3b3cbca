#include "harness/campaign/plan_file.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "harness/problem/error.h"
#include "harness/problem/text.h"
#include "harness/results/csv.h"

namespace attn {

std::string PlanLine::csv() const {
  std::string line = fmt::format("{},{},", id, threads);
  append_csv_field(line, problem);
  line += ',';
  append_csv_field(line, fmt::format("{}", fmt::join(variants, " ")));
  return line;
}

std::vector<PlanLine> read_plan_lines(const std::string& path) {
  std::vector<PlanLine> lines;
  const CompleteLines file = read_complete_lines(path);
  for (size_t k = 1; k < file.lines.size(); ++k) {
    const std::string where = fmt::format("{}:{}", path, k + 1);
    const auto fields = split_csv_record(file.lines[k], where);
    if (fields.size() != 4) throw UsageError(where + ": expected point, threads, problem, variants");
    PlanLine& line = lines.emplace_back(PlanLine{fields[0], fields[1], fields[2], {}});
    for (const std::string_view name : split(fields[3], ' ')) line.variants.emplace_back(name);
  }
  return lines;
}

}  // namespace attn
