#include "harness/analysis/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <stdexcept>

#include "harness/results/csv.h"

namespace attn {
namespace {

std::string cell(const std::string& value) { return value; }
std::string cell(int64_t value) { return fmt::format("{}", value); }
std::string cell(const Count& value) { return value ? fmt::format("{}", *value) : ""; }
std::string cell(const Number& value) { return value ? fmt::format("{}", *value) : ""; }

template <class Visit>
void visit_fields(const FitRow& row, Visit visit) {
#define ATTN_FIELD(name) visit(#name, row.name)
  ATTN_FIELD(variant);
  ATTN_FIELD(axis);
  ATTN_FIELD(quantity);
  ATTN_FIELD(unit);
  ATTN_FIELD(setting);
  ATTN_FIELD(points);
  ATTN_FIELD(excluded);
  ATTN_FIELD(why_excluded);
  ATTN_FIELD(knees);
  ATTN_FIELD(from);
  ATTN_FIELD(to);
  ATTN_FIELD(model);
  ATTN_FIELD(exponent);
  ATTN_FIELD(exponent_ci_low);
  ATTN_FIELD(exponent_ci_high);
  ATTN_FIELD(offset);
  ATTN_FIELD(coefficient);
  ATTN_FIELD(loglog_exponent);
  ATTN_FIELD(residual_rms);
  ATTN_FIELD(analytic_exponent);
  ATTN_FIELD(analytic_exponent_fitted_range);
  ATTN_FIELD(held_out_x);
  ATTN_FIELD(held_out_error_fitted);
  ATTN_FIELD(held_out_error_declared);
  ATTN_FIELD(held_out_better);
  ATTN_FIELD(verdict);
#undef ATTN_FIELD
}

template <class Visit>
void visit_fields(const SlopeRow& row, Visit visit) {
#define ATTN_FIELD(name) visit(#name, row.name)
  ATTN_FIELD(variant);
  ATTN_FIELD(axis);
  ATTN_FIELD(quantity);
  ATTN_FIELD(setting);
  ATTN_FIELD(from);
  ATTN_FIELD(to);
  ATTN_FIELD(exponent);
  ATTN_FIELD(exponent_ci_low);
  ATTN_FIELD(exponent_ci_high);
  ATTN_FIELD(declared_exponent);
  ATTN_FIELD(fitted);
#undef ATTN_FIELD
}

template <class Visit>
void visit_fields(const CrossoverRow& row, Visit visit) {
#define ATTN_FIELD(name) visit(#name, row.name)
  ATTN_FIELD(quantity);
  ATTN_FIELD(axis);
  ATTN_FIELD(setting);
  ATTN_FIELD(variant_a);
  ATTN_FIELD(variant_b);
  ATTN_FIELD(points);
  ATTN_FIELD(from);
  ATTN_FIELD(to);
  ATTN_FIELD(crossover);
  ATTN_FIELD(crossover_ci_low);
  ATTN_FIELD(crossover_ci_high);
  ATTN_FIELD(crossings);
  ATTN_FIELD(ratio_at_to);
  ATTN_FIELD(theory_crossover);
  ATTN_FIELD(theory);
  ATTN_FIELD(verdict);
#undef ATTN_FIELD
}

template <class Visit>
void visit_fields(const FrontierRow& row, Visit visit) {
#define ATTN_FIELD(name) visit(#name, row.name)
  ATTN_FIELD(variant);
  ATTN_FIELD(setting);
  ATTN_FIELD(device);
  ATTN_FIELD(memory_bytes);
  ATTN_FIELD(is_limit);
  ATTN_FIELD(largest_n);
  ATTN_FIELD(limited_by);
  ATTN_FIELD(bytes);
  ATTN_FIELD(time_s_predicted);
  ATTN_FIELD(largest_n_checked);
  ATTN_FIELD(largest_n_measured);
#undef ATTN_FIELD
}

template <class Visit>
void visit_fields(const ComparedRow& row, Visit visit) {
#define ATTN_FIELD(name) visit(#name, row.name)
  ATTN_FIELD(variant);
  ATTN_FIELD(problem);
  ATTN_FIELD(threads);
  ATTN_FIELD(status_a);
  ATTN_FIELD(status_b);
  ATTN_FIELD(time_s_a);
  ATTN_FIELD(time_s_b);
  ATTN_FIELD(ratio);
  ATTN_FIELD(ratio_ci_low);
  ATTN_FIELD(ratio_ci_high);
  ATTN_FIELD(p_adjusted);
  ATTN_FIELD(verdict);
#undef ATTN_FIELD
}

template <class Visit>
void visit_fields(const TermRow& row, Visit visit) {
#define ATTN_FIELD(name) visit(#name, row.name)
  ATTN_FIELD(variant);
  ATTN_FIELD(term);
  ATTN_FIELD(axis);
  ATTN_FIELD(d_model);
  ATTN_FIELD(threads);
  ATTN_FIELD(points);
  ATTN_FIELD(excluded);
  ATTN_FIELD(why_excluded);
  ATTN_FIELD(from);
  ATTN_FIELD(to);
  ATTN_FIELD(model);
  ATTN_FIELD(exponent);
  ATTN_FIELD(exponent_ci_low);
  ATTN_FIELD(exponent_ci_high);
  ATTN_FIELD(analytic_exponent);
  ATTN_FIELD(residual_rms);
  ATTN_FIELD(flops_per_s);
  ATTN_FIELD(crossing);
  ATTN_FIELD(crossing_ci_low);
  ATTN_FIELD(crossing_ci_high);
  ATTN_FIELD(theory_crossing);
  ATTN_FIELD(theory_crossing_at_rates);
  ATTN_FIELD(verdict);
  ATTN_FIELD(setting);
#undef ATTN_FIELD
}

template <class Row>
Table make_table(const std::vector<Row>& rows) {
  Table table;
  visit_fields(Row{}, [&](const char* name, const auto&) { table.columns.push_back(name); });
  for (const Row& row : rows) {
    std::vector<std::string> cells;
    visit_fields(row, [&](const char*, const auto& value) { cells.push_back(cell(value)); });
    table.rows.push_back(std::move(cells));
  }
  return table;
}

std::string csv_line(const std::vector<std::string>& cells) {
  std::string line;
  for (size_t i = 0; i < cells.size(); ++i) {
    if (i) line += ',';
    append_csv_field(line, cells[i]);
  }
  return line + '\n';
}

/// A number with a fraction to four digits, anything else as it is.
std::string shortened(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool fraction = text.find_first_of(".e") != std::string::npos;
  return error == std::errc{} && end == text.data() + text.size() && fraction ? fmt::format("{:.4g}", value)
                                                                              : text;
}

}  // namespace

std::string Table::csv() const {
  std::string content = csv_line(columns);
  for (const auto& row : rows) content += csv_line(row);
  return content;
}

std::string Table::text(const std::vector<std::string>& names) const {
  std::vector<std::vector<std::string>> lines{names};
  std::vector<size_t> places;
  for (const std::string& name : names) {
    const auto found = std::find(columns.begin(), columns.end(), name);
    if (found == columns.end()) throw std::logic_error("no column " + name);
    places.push_back(static_cast<size_t>(found - columns.begin()));
  }
  for (const auto& row : rows) {
    std::vector<std::string> line;
    for (const size_t place : places) line.push_back(shortened(row[place]));
    lines.push_back(std::move(line));
  }
  std::string text;
  for (const auto& line : lines) {
    std::string padded;
    for (size_t i = 0; i < line.size(); ++i) {
      size_t width = 0;
      for (const auto& other : lines) width = std::max(width, other[i].size());
      padded += fmt::format("{:<{}}  ", line[i], width);
    }
    padded.erase(padded.find_last_not_of(' ') + 1);
    text += padded + '\n';
  }
  return text;
}

Table table_of(const std::vector<FitRow>& rows) { return make_table(rows); }
Table table_of(const std::vector<SlopeRow>& rows) { return make_table(rows); }
Table table_of(const std::vector<ComparedRow>& rows) { return make_table(rows); }
Table table_of(const std::vector<CrossoverRow>& rows) { return make_table(rows); }
Table table_of(const std::vector<FrontierRow>& rows) { return make_table(rows); }
Table table_of(const std::vector<TermRow>& rows) { return make_table(rows); }

}  // namespace attn
