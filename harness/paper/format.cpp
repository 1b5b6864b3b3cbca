#include "harness/paper/format.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "harness/results/csv.h"

namespace attn {
namespace {

std::string shown(const PaperCell& cell) { return cell.value ? four_digits(*cell.value) : cell.text; }

std::string interval_of(const PaperCell& cell) {
  if (!cell.low || !cell.high) return "";
  return fmt::format("[{}, {}]", four_digits(*cell.low), four_digits(*cell.high));
}

std::string heading(const PaperColumn& column) {
  return column.unit.empty() ? column.name : fmt::format("{} ({})", column.name, column.unit);
}

/// siunitx's table-format: the most digits before and after the point.
std::string digits_of(const PaperTable& table, size_t column) {
  size_t whole = 1, fraction = 0;
  bool negative = false;
  for (const auto& row : table.rows) {
    if (!row[column].value) continue;
    std::string text = four_digits(*row[column].value);
    if (text.front() == '-') {
      negative = true;
      text.erase(0, 1);
    }
    const size_t point = std::min(text.find('.'), text.size());
    whole = std::max(whole, point);
    fraction = std::max(fraction, text.size() - std::min(point + 1, text.size()));
  }
  return fmt::format("{}{}.{}", negative ? "-" : "", whole, fraction);
}

/// An interval is a text column of its own, right behind.
std::string column_types(const PaperTable& table) {
  std::string types;
  for (size_t i = 0; i < table.columns.size(); ++i) {
    const PaperColumn& column = table.columns[i];
    types += column.number ? fmt::format("S[table-format={}]", digits_of(table, i)) : "l";
    if (column.interval) types += "@{\\,}l";
  }
  return types;
}

/// Braces keep text out of siunitx's hands.
std::string latex_row(const std::vector<std::string>& cells) {
  return fmt::format("{} \\\\\n", fmt::join(cells, " & "));
}

std::string latex_heading(const PaperTable& table) {
  std::vector<std::string> cells;
  for (const PaperColumn& column : table.columns) {
    const std::string text = latex_escaped(heading(column));
    cells.push_back(column.interval ? fmt::format("\\multicolumn{{2}}{{c}}{{{}}}", text)
                                    : fmt::format("{{{}}}", text));
  }
  return latex_row(cells);
}

std::string latex_cells(const PaperTable& table, const std::vector<PaperCell>& row) {
  std::vector<std::string> cells;
  for (size_t i = 0; i < row.size(); ++i) {
    std::string text = shown(row[i]);
    if (!row[i].value) text = latex_escaped(text);
    cells.push_back(table.columns[i].number && !row[i].value ? "{" + text + "}" : text);
    if (table.columns[i].interval) cells.push_back(fmt::format("{{\\footnotesize {}}}", interval_of(row[i])));
  }
  return latex_row(cells);
}

std::string markdown_row(const std::vector<std::string>& cells) {
  return fmt::format("| {} |\n", fmt::join(cells, " | "));
}

std::string markdown_escaped(std::string text) {
  for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, 1, '\\');
  return text;
}

std::string per_part(const PaperTable& table,
                     const std::function<std::string(const PaperTable&, size_t)>& print) {
  std::string text;
  size_t number = 0;
  for (const PaperTable& part : split_table(table)) text += print(part, ++number);
  return text;
}

void append_cell(std::string& line, const std::string& text) {
  if (!line.empty()) line += ',';
  append_csv_field(line, text);
}

std::string in_full(const Number& value) { return value ? fmt::format("{}", *value) : ""; }

}  // namespace

std::string latex_escaped(std::string_view text) {
  std::string escaped;
  for (const char c : text) {
    if (std::string_view("&%$#_{}").find(c) != std::string_view::npos) {
      escaped += fmt::format("\\{}", c);
    } else if (c == '\\') {
      escaped += "\\textbackslash{}";
    } else if (c == '~') {
      escaped += "\\textasciitilde{}";
    } else if (c == '^') {
      escaped += "\\textasciicircum{}";
    } else {
      escaped += c;
    }
  }
  return escaped;
}

std::string four_digits(double value) {
  if (value == 0 || !std::isfinite(value)) return fmt::format("{}", value);
  if (value == std::round(value) && std::abs(value) < 1e15) return fmt::format("{:.0f}", value);
  const int before = static_cast<int>(std::floor(std::log10(std::abs(value)))) + 1;
  return fmt::format("{:.{}f}", value, std::clamp(4 - before, 0, 12));
}

std::string to_latex(const PaperTable& table) {
  return per_part(table, [](const PaperTable& part, size_t number) {
    std::string text = fmt::format(
        "\\begin{{table}}\n\\centering\n\\caption{{{}.}}\n\\label{{tab:{}-{}}}\n\\begin{{tabular}}{{{}}}"
        "\n\\toprule\n",
        latex_escaped(part.caption), part.name, number, column_types(part));
    text += latex_heading(part) + "\\midrule\n";
    for (const auto& row : part.rows) text += latex_cells(part, row);
    return text + "\\bottomrule\n\\end{tabular}\n\\end{table}\n\n";
  });
}

std::string to_markdown(const PaperTable& table) {
  return per_part(table, [](const PaperTable& part, size_t) {
    std::vector<std::string> names, rules;
    for (const PaperColumn& column : part.columns) {
      names.push_back(markdown_escaped(heading(column)));
      rules.push_back(column.number ? "---:" : "---");
    }
    std::string text = fmt::format("{}\n\n{}{}", part.caption, markdown_row(names), markdown_row(rules));
    for (const auto& row : part.rows) {
      std::vector<std::string> cells;
      for (const PaperCell& cell : row) {
        const std::string interval = interval_of(cell);
        cells.push_back(markdown_escaped(shown(cell)) + (interval.empty() ? "" : " " + interval));
      }
      text += markdown_row(cells);
    }
    return text + "\n";
  });
}

std::string to_csv(const PaperTable& table) {
  std::string text;
  for (const PaperColumn& column : table.columns) {
    const std::string name = column.unit.empty() ? column.name : column.name + "_" + column.unit;
    append_cell(text, name);
    if (!column.interval) continue;
    append_cell(text, name + "_low");
    append_cell(text, name + "_high");
  }
  text += '\n';
  for (const auto& row : table.rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) {
      append_cell(line, row[i].value ? in_full(row[i].value) : row[i].text);
      if (!table.columns[i].interval) continue;
      append_cell(line, in_full(row[i].low));
      append_cell(line, in_full(row[i].high));
    }
    text += line + '\n';
  }
  return text;
}

}  // namespace attn
