#pragma once
// Progress for a person: one line that is rewritten on a terminal, plain lines otherwise.

#include <chrono>
#include <cstdio>
#include <map>
#include <string>

#include "harness/campaign/resume.h"
#include "harness/results/schema.h"

namespace attn {

class Progress {
 public:
  /// `total` rows of which `done` exist already.
  Progress(size_t total, size_t done, std::FILE* out);
  /// Forecast seconds of a row to come, from which the time left is told.
  void expect(const RowKey& row, double seconds);
  void start_point(const std::string& problem);
  void finish_row(const ResultRow& row);
  /// Leaves the cursor on a fresh line.
  void close();

 private:
  std::string remaining() const;
  void draw(const std::string& text);

  size_t total_, done_;
  std::map<RowKey, double> expected_s_;  ///< of the rows to come
  double left_s_ = 0, passed_s_ = 0;     ///< forecast for the rows to come, for those measured since
  std::FILE* out_;
  bool terminal_;
  bool started_ = false;
  std::chrono::steady_clock::time_point start_;  ///< of the first point
};

/// "1.23 ms"
std::string human_time(double seconds);
/// "12.3 MiB"
std::string human_bytes(double bytes);

}  // namespace attn
