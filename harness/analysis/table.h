#pragma once
// The small result tables: columns and cells as text, for CSV files and for the terminal.

#include <string>
#include <vector>

#include "harness/analysis/compare.h"
#include "harness/analysis/crossover.h"
#include "harness/analysis/fit.h"
#include "harness/analysis/frontier.h"
#include "harness/analysis/slopes.h"
#include "harness/analysis/terms.h"

namespace attn {

struct Table {
  std::vector<std::string> columns;
  std::vector<std::vector<std::string>> rows;

  /// RFC 4180, with header; an empty cell is null.
  std::string csv() const;
  /// The named columns, aligned, numbers to four digits. Throws std::logic_error for an unknown name.
  std::string text(const std::vector<std::string>& names) const;
};

Table table_of(const std::vector<FitRow>& rows);
Table table_of(const std::vector<SlopeRow>& rows);
Table table_of(const std::vector<ComparedRow>& rows);
Table table_of(const std::vector<CrossoverRow>& rows);
Table table_of(const std::vector<FrontierRow>& rows);
Table table_of(const std::vector<TermRow>& rows);

}  // namespace attn
