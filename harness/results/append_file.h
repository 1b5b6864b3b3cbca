#pragma once
// Result files that survive a kill: every append is one write(2) to a file opened with O_APPEND, so at most
// the last line can be torn; a short write (disk full) is an error with the file's name. Rows survive a power
// cut up to the last fsync, which happens at intervals and on close; a new file's folder is synced too.

#include <chrono>
#include <string>
#include <string_view>

namespace attn {

class AppendFile {
 public:
  /// Creates the file with `header`, or continues one that starts with it: a torn last line is cut off first.
  /// Throws UsageError where the file holds other columns, std::runtime_error where it cannot be written.
  AppendFile(std::string path, const std::string& header);
  AppendFile(const AppendFile&) = delete;
  ~AppendFile();

  /// `lines` end with a line feed. Throws std::runtime_error naming the file.
  void append(std::string_view lines);
  void sync();
  /// Length of the torn last line that was cut off.
  size_t torn_bytes() const { return torn_bytes_; }

 private:
  std::string path_;
  size_t torn_bytes_ = 0;
  int descriptor_ = -1;
  std::chrono::steady_clock::time_point last_sync_;
};

/// Replaces a file in one step: a reader sees the old content or the new one.
void replace_file(const std::string& path, std::string_view content);

/// Holds a folder for one writer; throws UsageError where another process has it.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder);
  FolderLock(const FolderLock&) = delete;
  ~FolderLock();

 private:
  int descriptor_ = -1;
};

}  // namespace attn
