#include "harness/paper/paper_table.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>
#include <map>
#include <set>
#include <string_view>
#include <tuple>

#include "harness/problem/text.h"

namespace attn {
namespace {

constexpr double kMebibyte = 1 << 20;

/// The fields of a problem that no column of the table shows.
std::string setting_of_row(const ResultRow& row) {
  static const std::set<std::string_view> shown = {"nq", "nk", "hq", "hk", "d", "dv", "dm"};
  std::string setting;
  for (const std::string_view field : split(row.problem, ',')) {
    if (shown.contains(field.substr(0, field.find('=')))) continue;
    setting += fmt::format("{}{}", setting.empty() ? "" : ", ", field);
  }
  return fmt::format("{}, threads={}", setting, row.threads);
}

std::vector<std::string> variants_of(const std::vector<ResultRow>& rows) {
  std::set<std::string> names;
  for (const ResultRow& row : rows) {
    if (row.status != Status::unsupported && row.status != Status::skipped) names.insert(row.variant);
  }
  return {names.begin(), names.end()};
}

PaperCell number(double value) { return {"", value, {}, {}}; }
PaperCell words(std::string text) { return {std::move(text), {}, {}, {}}; }

/// Setting, n, keys, h, key/value heads, d_head: the left part of a row, and its order.
using Shape = std::tuple<std::string, int64_t, int64_t, int64_t, int64_t, int64_t>;
Shape shape_of(const ResultRow& row) {
  return {setting_of_row(row), row.d_head, row.heads_q, row.heads_kv, row.seq_kv, row.seq_q};
}

using CellOf = std::function<PaperCell(const ResultRow&)>;

PaperTable by_variant(const CampaignData& campaign, const std::string& unit, bool interval,
                      const CellOf& cell_of) {
  PaperTable table;
  table.columns = {{"setting", "", false}, {"n", ""}, {"nk", ""}, {"h", ""}, {"hk", ""}, {"d", ""}};
  const std::vector<std::string> variants = variants_of(campaign.rows);
  for (const std::string& variant : variants) table.columns.push_back({variant, unit, true, interval});
  std::map<Shape, std::vector<PaperCell>> rows;
  for (const ResultRow& row : campaign.rows) {
    const auto place = std::find(variants.begin(), variants.end(), row.variant);
    if (place == variants.end()) continue;
    std::vector<PaperCell>& cells = rows[shape_of(row)];
    if (cells.empty()) {
      cells = {words(setting_of_row(row)),
               number(static_cast<double>(row.seq_q)),
               row.seq_kv == row.seq_q ? PaperCell{} : number(static_cast<double>(row.seq_kv)),
               number(static_cast<double>(row.heads_q)),
               row.heads_kv == row.heads_q ? PaperCell{} : number(static_cast<double>(row.heads_kv)),
               number(static_cast<double>(row.d_head))};
      cells.resize(6 + variants.size());
    }
    cells[6 + static_cast<size_t>(place - variants.begin())] = cell_of(row);
  }
  for (auto& [shape, cells] : rows) table.rows.push_back(std::move(cells));
  return table;
}

std::string in_words(Status status) {
  std::string text = to_text(status);
  std::replace(text.begin(), text.end(), '_', ' ');
  return text;
}

Number scaled_by(const Number& value, double factor) { return value ? Number(*value * factor) : Number(); }

std::string range_of(const FitRow& fit) {
  return fit.from && fit.to ? fmt::format("{} to {}", *fit.from, *fit.to) : "";
}

bool empty_column(const PaperTable& table, size_t column) {
  return std::all_of(table.rows.begin(), table.rows.end(), [&](const std::vector<PaperCell>& row) {
    return row[column].text.empty() && !row[column].value;
  });
}

void drop_column(PaperTable& table, size_t column) {
  const auto place = static_cast<std::ptrdiff_t>(column);
  table.columns.erase(table.columns.begin() + place);
  for (auto& row : table.rows) row.erase(row.begin() + place);
}

}  // namespace

PaperTable time_table(const CampaignData& campaign) {
  PaperTable table = by_variant(campaign, "ms", true, [](const ResultRow& row) {
    if (!row.time_s_median) return words(in_words(row.status));
    return PaperCell{"", *row.time_s_median * 1e3, scaled_by(row.time_s_ci_low, 1e3),
                     scaled_by(row.time_s_ci_high, 1e3)};
  });
  table.name = "time";
  table.caption = "Median time of one call with its 95 % interval";
  return table;
}

PaperTable memory_table(const CampaignData& campaign) {
  PaperTable table = by_variant(campaign, "MiB", false, [](const ResultRow& row) {
    const auto bytes = measured_value(row, Quantity::total_memory);
    return bytes && row.status == Status::ok ? number(*bytes / kMebibyte) : words(in_words(row.status));
  });
  table.name = "memory";
  table.caption = "Operands and workspace";
  return table;
}

PaperTable exponent_table(const Analysis& analysis) {
  PaperTable table;
  table.name = "exponents";
  table.caption = "Fitted exponents with 95 % intervals beside those of the declared cost";
  table.columns = {{"setting", "", false},          {"axis", "", false},   {"quantity", "", false},
                   {"variant", "", false},          {"range", "", false},  {"exponent", "", true, true},
                   {"declared exponent", "", true}, {"verdict", "", false}};
  for (const FitRow& fit : analysis.fits) {
    if (fit.quantity == "flops" || !fit.exponent) continue;
    std::string setting = fit.setting;
    for (size_t at = 0; (at = setting.find(',', at)) != std::string::npos; at += 2)
      setting.replace(at, 1, ", ");
    table.rows.push_back({words(setting), words(fit.axis), words(fit.quantity), words(fit.variant),
                          words(range_of(fit)),
                          PaperCell{"", fit.exponent, fit.exponent_ci_low, fit.exponent_ci_high},
                          PaperCell{"", fit.analytic_exponent, {}, {}}, words(fit.verdict)});
  }
  std::stable_sort(table.rows.begin(), table.rows.end(),
                   [](const auto& a, const auto& b) { return a.front().text < b.front().text; });
  return table;
}

std::vector<PaperTable> split_table(const PaperTable& table) {
  std::vector<PaperTable> parts;
  std::string setting;
  for (const auto& row : table.rows) {
    if (parts.empty() || row.front().text != setting) {
      setting = row.front().text;
      parts.push_back({table.name, table.caption + "; " + setting, table.columns, {}});
    }
    parts.back().rows.push_back(row);
  }
  for (PaperTable& part : parts) {
    drop_column(part, 0);
    for (size_t column = part.columns.size(); column-- > 0;) {
      if (empty_column(part, column)) drop_column(part, column);
    }
  }
  return parts;
}

}  // namespace attn
