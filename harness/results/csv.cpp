#include "harness/results/csv.h"

#include <fstream>
#include <sstream>

#include "harness/problem/error.h"
#include "harness/problem/file.h"

namespace attn {

void append_csv_field(std::string& line, std::string_view field) {
  if (field.find_first_of(",\"\r\n") == std::string_view::npos) {
    line += field;
    return;
  }
  line += '"';
  for (char c : field) {
    if (c == '"') line += '"';
    line += c;
  }
  line += '"';
}

namespace {

/// Reads the quoted field that starts at `at` (behind the opening quote); returns the place behind the
/// closing one.
size_t read_quoted(std::string_view record, size_t at, std::string& field, const std::string& where) {
  for (; at < record.size(); ++at) {
    if (record[at] != '"') {
      field += record[at];
    } else if (at + 1 < record.size() && record[at + 1] == '"') {
      field += record[++at];
    } else {
      return at + 1;
    }
  }
  throw UsageError(where + ": a quoted field does not end");
}

}  // namespace

std::vector<std::string> split_csv_record(std::string_view record, const std::string& where) {
  std::vector<std::string> fields;
  for (size_t at = 0;; ++at) {
    std::string field;
    if (at < record.size() && record[at] == '"') {
      at = read_quoted(record, at + 1, field, where);
      if (at < record.size() && record[at] != ',') throw UsageError(where + ": text follows a quoted field");
    } else {
      const size_t end = std::min(record.find(',', at), record.size());
      field = record.substr(at, end - at);
      if (field.find('"') != std::string::npos)
        throw UsageError(where + ": a quote inside an unquoted field");
      at = end;
    }
    fields.push_back(std::move(field));
    if (at >= record.size()) return fields;
  }
}

CompleteLines read_complete_lines(const std::string& path) {
  constexpr uint64_t kMostBytes = uint64_t{1} << 32;
  const std::string unreadable = why_unreadable(path, kMostBytes);
  if (!unreadable.empty()) throw UsageError("cannot read " + path + ": " + unreadable);
  std::ifstream file(path, std::ios::binary);
  std::ostringstream buffer;
  buffer << file.rdbuf();
  CompleteLines result;
  result.content = std::move(buffer).str();
  const size_t last = result.content.rfind('\n');
  const size_t complete = last == std::string::npos ? 0 : last + 1;
  result.torn_bytes = result.content.size() - complete;
  result.content.resize(complete);
  const std::string_view content = result.content;
  for (size_t begin = 0; begin < content.size();) {
    const size_t end = content.find('\n', begin);
    std::string_view line = content.substr(begin, end - begin);
    if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
    result.lines.push_back(line);
    begin = end + 1;
  }
  return result;
}

}  // namespace attn
