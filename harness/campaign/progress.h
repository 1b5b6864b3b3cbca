#pragma once
// Progress for a person: one line that is rewritten on a terminal, plain lines otherwise.

#include <chrono>
#include <cstdio>
#include <string>

#include "harness/results/schema.h"

namespace attn {

class Progress {
 public:
  /// `total` rows of which `done` exist already.
  Progress(size_t total, size_t done, std::FILE* out);
  void start_point(const std::string& problem);
  void finish_row(const ResultRow& row);
  /// Leaves the cursor on a fresh line.
  void close();

 private:
  std::string remaining() const;
  void draw(const std::string& text);

  size_t total_, done_, resumed_;
  std::FILE* out_;
  bool terminal_;
  std::chrono::steady_clock::time_point start_;
};

/// "1.23 ms"
std::string human_time(double seconds);
/// "12.3 MiB"
std::string human_bytes(double bytes);

}  // namespace attn
