#pragma once
// Comma-separated values after RFC 4180: fields with comma, quote or line break are quoted, quotes are
// doubled. Records end with a line feed; a reader accepts CRLF too.

#include <string>
#include <string_view>
#include <vector>

namespace attn {

/// Appends one field, quoted where needed.
void append_csv_field(std::string& line, std::string_view field);
/// The fields of one record without its line end; throws UsageError("WHERE: ...") for broken quoting.
std::vector<std::string> split_csv_record(std::string_view record, const std::string& where);

/// The complete lines of a file: text after the last line feed is a torn write and is left out.
struct CompleteLines {
  std::string content;                  ///< ends with a line feed, or is empty
  size_t torn_bytes = 0;                ///< bytes behind the last line feed
  std::vector<std::string_view> lines;  ///< borrowed from content, without line ends
};
/// Throws UsageError where the file cannot be read.
CompleteLines read_complete_lines(const std::string& path);

}  // namespace attn
