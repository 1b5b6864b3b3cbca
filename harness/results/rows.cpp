// Text form of the rows: one visitor per direction over the fields of harness/results/fields.h.

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "harness/problem/error.h"
#include "harness/results/csv.h"
#include "harness/results/fields.h"

namespace attn {
namespace {

constexpr std::pair<Status, const char*> kStatusNames[] = {
    {Status::ok, "ok"},
    {Status::disagrees, "disagrees"},
    {Status::unsupported, "unsupported"},
    {Status::out_of_memory, "out_of_memory"},
    {Status::timed_out, "timed_out"},
    {Status::crashed, "crashed"},
    {Status::skipped, "skipped"},
};

/// A row is one line: a line break inside a text would make torn writes undetectable.
std::string field_text(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return c == '\n' || c == '\r'; }, ' ');
  return text;
}
std::string field_text(Status status) { return to_text(status); }
std::string field_text(int64_t value) { return fmt::format("{}", value); }
std::string field_text(double value) { return fmt::format("{}", value); }
template <class T>
std::string field_text(const std::optional<T>& value) {
  return value ? field_text(*value) : "";
}

void read_field(std::string_view text, std::string& value) { value = text; }
void read_field(std::string_view text, Status& value) { value = parse_status(text); }
template <class T>
requires std::is_arithmetic_v<T>
void read_field(std::string_view text, T& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    throw UsageError(fmt::format("'{}' is not a number", text));
  }
}
template <class T>
void read_field(std::string_view text, std::optional<T>& value) {
  if (text.empty()) {
    value.reset();
  } else {
    read_field(text, value.emplace());
  }
}

template <class Row>
std::string header_of(int version) {
  std::string line;
  Row row;
  visit_fields(row, [&](const char* name, const auto&) {
    if (version_of(name) > version) return;
    if (!line.empty()) line += ',';
    line += name;
  });
  return line;
}

template <class Row>
std::string line_of(const Row& row) {
  std::string line;
  bool first = true;
  visit_fields(row, [&](const char*, const auto& value) {
    if (!first) line += ',';
    first = false;
    append_csv_field(line, field_text(value));
  });
  return line + '\n';
}

template <class Row>
Row row_of(std::string_view line, const std::string& where, int version) {
  const std::vector<std::string> texts = split_csv_record(line, where);
  Row row;
  size_t column = 0;
  visit_fields(row, [&](const char* name, auto& value) {
    if (version_of(name) > version) return;
    if (column == texts.size()) throw UsageError(where + ": too few fields");
    try {
      read_field(texts[column++], value);
    } catch (const UsageError& error) {
      throw UsageError(fmt::format("{}: column {}: {}", where, name, error.what()));
    }
  });
  if (column < texts.size()) throw UsageError(where + ": too many fields");
  return row;
}

template <class Row>
int version_of_header(std::string_view header, const std::string& where) {
  for (int version = kSchemaVersion; version >= kOldestSchemaVersion; --version) {
    if (header == header_of<Row>(version)) return version;
  }
  throw UsageError(fmt::format("{}: the columns are not those of schema {} to {}", where,
                               kOldestSchemaVersion, kSchemaVersion));
}

template <class Row>
std::vector<Row> read_rows(const std::string& path) {
  const CompleteLines file = read_complete_lines(path);
  std::vector<Row> rows;
  int version = kSchemaVersion;
  for (size_t k = 0; k < file.lines.size(); ++k) {
    const std::string where = fmt::format("{}:{}", path, k + 1);
    if (k > 0) {
      rows.push_back(row_of<Row>(file.lines[k], where, version));
    } else {
      version = version_of_header<Row>(file.lines[k], where);
    }
  }
  return rows;
}

}  // namespace

std::string to_text(Status status) {
  for (const auto& [value, name] : kStatusNames) {
    if (value == status) return name;
  }
  return "?";
}

Status parse_status(std::string_view text) {
  for (const auto& [value, name] : kStatusNames) {
    if (name == text) return value;
  }
  throw UsageError(fmt::format("status '{}' is unknown", text));
}

ResultRow exact_part(ResultRow row) {
  for (std::string* text : {&row.campaign, &row.stop, &row.bound, &row.node, &row.machine}) text->clear();
  for (Number* number :
       {&row.time_s_median,     &row.time_s_ci_low,      &row.time_s_ci_high,   &row.time_s_min,
        &row.time_s_sd_within,  &row.time_s_sd_between,  &row.time_s_predicted, &row.time_hot_s_median,
        &row.time_hot_s_ci_low, &row.time_hot_s_ci_high, &row.latency_s_median, &row.latency_graph_s_median,
        &row.ratio_to_baseline, &row.ratio_ci_low,       &row.ratio_ci_high,    &row.flops_per_s,
        &row.roof_fraction,     &row.clock_hz_mean,      &row.steal_fraction,   &row.cpu_pressure}) {
    number->reset();
  }
  for (Count* count : {&row.samples, &row.samples_hot, &row.samples_throttled, &row.rounds, &row.outliers,
                       &row.memory_process_peak_bytes}) {
    count->reset();
  }
  return row;
}

std::string results_header() { return header_of<ResultRow>(kSchemaVersion) + '\n'; }
std::string samples_header() { return header_of<SampleRow>(kSchemaVersion) + '\n'; }
std::string to_csv(const ResultRow& row) { return line_of(row); }
std::string to_csv(const SampleRow& row) { return line_of(row); }
ResultRow result_from_csv(std::string_view line, const std::string& where) {
  return row_of<ResultRow>(line, where, kSchemaVersion);
}
std::vector<ResultRow> read_results(const std::string& path) { return read_rows<ResultRow>(path); }
std::vector<SampleRow> read_samples(const std::string& path) { return read_rows<SampleRow>(path); }

}  // namespace attn
