#include "harness/campaign/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>

namespace attn {
namespace {

int terminal_columns() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) return 80;
  return size.ws_col;
}

constexpr double kScaledFrom_s = 5;

std::string summary(const ResultRow& row) {
  if (row.status != Status::ok) return to_text(row.status) + ": " + row.reason;
  std::string text = human_time(*row.time_s_median);
  if (row.time_s_ci_low) {
    const double half =
        std::max(*row.time_s_ci_high - *row.time_s_median, *row.time_s_median - *row.time_s_ci_low);
    text += fmt::format(" +-{:.1f} %", 100 * half / *row.time_s_median);
  }
  return text;
}

}  // namespace

std::string human_time(double seconds) {
  if (seconds < 1e-3) return fmt::format("{:.3g} us", seconds * 1e6);
  if (seconds < 1) return fmt::format("{:.3g} ms", seconds * 1e3);
  if (seconds < 120) return fmt::format("{:.3g} s", seconds);
  return fmt::format("{:.0f} min", seconds / 60);
}

std::string human_bytes(double bytes) {
  constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  for (; bytes >= 1024 && unit + 1 < std::size(kUnits); ++unit) bytes /= 1024;
  return fmt::format("{:.3g} {}", bytes, kUnits[unit]);
}

Progress::Progress(size_t total, size_t done, std::FILE* out)
    : total_(total), done_(done), out_(out), terminal_(isatty(fileno(out))) {}

std::string Progress::remaining() const {
  if (done_ == total_ || left_s_ <= 0) return "";
  const double elapsed_s = std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  // Forecasts are nominal in part: from some seconds on they are scaled by how those so far came out.
  const double scale = passed_s_ > kScaledFrom_s ? elapsed_s / passed_s_ : 1;
  return ", about " + human_time(scale * left_s_) + " left";
}

void Progress::expect(const RowKey& row, double seconds) {
  expected_s_[row] = seconds;
  left_s_ += seconds;
}

void Progress::draw(const std::string& text) {
  const std::string line = fmt::format("[{}/{}{}] {}", done_, total_, remaining(), text);
  fmt::print(out_, "\r{}\x1b[K", line.substr(0, static_cast<size_t>(terminal_columns() - 1)));
  std::fflush(out_);
}

void Progress::start_point(const std::string& problem) {
  if (!started_) start_ = std::chrono::steady_clock::now();
  started_ = true;
  if (terminal_) draw(problem);
}

void Progress::finish_row(const ResultRow& row) {
  ++done_;
  if (const auto expected = expected_s_.find({row.point, row.variant}); expected != expected_s_.end()) {
    left_s_ -= expected->second;
    passed_s_ += expected->second;
    expected_s_.erase(expected);
  }
  const std::string text = fmt::format("{}: {}", row.variant, summary(row));
  if (terminal_) {
    draw(text + "  " + row.problem);
  } else {
    fmt::print(out_, "[{}/{}] {}  {}\n", done_, total_, row.problem, text);
    std::fflush(out_);
  }
}

void Progress::close() {
  if (terminal_) fmt::print(out_, "\n");
}

}  // namespace attn
