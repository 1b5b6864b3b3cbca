#include "harness/results/append_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "harness/problem/error.h"
#include "harness/results/csv.h"

namespace attn {
namespace {

constexpr std::chrono::seconds kSyncInterval{5};

[[noreturn]] void fail(const std::string& path, const std::string& action) {
  throw std::runtime_error(fmt::format("cannot {} {}: {}", action, path, std::strerror(errno)));
}

int open_file(const std::string& path, int flags) {
  const int descriptor = ::open(path.c_str(), flags | O_CLOEXEC, 0644);
  if (descriptor < 0) fail(path, "open");
  return descriptor;
}

void write_whole(int descriptor, const std::string& path, std::string_view text) {
  ssize_t written;
  do {
    written = ::write(descriptor, text.data(), text.size());
  } while (written < 0 && errno == EINTR);
  if (written < 0) fail(path, "write to");
  if (static_cast<size_t>(written) < text.size()) {  // errno says nothing here
    throw std::runtime_error(fmt::format("{}: only {} of {} bytes could be written: is the disk full?", path,
                                         written, text.size()));
  }
}

/// A new name is safe from a power cut once its folder is.
void sync_folder_of(const std::string& path) {
  const std::filesystem::path folder = std::filesystem::path(path).parent_path();
  const int descriptor = ::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (descriptor < 0) return;  // a folder that may be written to but not read
  ::fsync(descriptor);
  ::close(descriptor);
}

/// Cuts a torn last line off and returns its length; throws where the file has other columns.
size_t repair(const std::string& path, const std::string& header) {
  const CompleteLines file = read_complete_lines(path);
  if (file.torn_bytes > 0) std::filesystem::resize_file(path, file.content.size());
  if (!file.content.empty() && !file.content.starts_with(header)) {
    throw UsageError(path + " holds other columns than this version writes: give another folder");
  }
  return file.torn_bytes;
}

}  // namespace

AppendFile::AppendFile(std::string path, const std::string& header) : path_(std::move(path)) {
  if (std::filesystem::is_regular_file(path_))
    torn_bytes_ = repair(path_, header);  // a device such as /dev/full has no end
  descriptor_ = open_file(path_, O_WRONLY | O_CREAT | O_APPEND);
  last_sync_ = std::chrono::steady_clock::now();
  if (!std::filesystem::is_regular_file(path_) || std::filesystem::file_size(path_) == 0) {
    append(header);
    sync();
    sync_folder_of(path_);
  }
}

AppendFile::~AppendFile() {
  ::fsync(descriptor_);
  ::close(descriptor_);
}

void AppendFile::append(std::string_view lines) {
  if (lines.empty()) return;
  write_whole(descriptor_, path_, lines);
  if (std::chrono::steady_clock::now() - last_sync_ > kSyncInterval) sync();
}

void AppendFile::sync() {
  if (::fsync(descriptor_) != 0 && errno != EINVAL && errno != EROFS) fail(path_, "sync");
  last_sync_ = std::chrono::steady_clock::now();
}

void replace_file(const std::string& path, std::string_view content) {
  const std::string next = path + ".next";
  const int descriptor = open_file(next, O_WRONLY | O_CREAT | O_TRUNC);
  try {
    if (!content.empty()) write_whole(descriptor, next, content);
    ::fsync(descriptor);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  ::close(descriptor);
  std::filesystem::rename(next, path);
  sync_folder_of(path);
}

FolderLock::FolderLock(const std::string& folder) {
  const std::string path = folder + "/.lock";
  descriptor_ = open_file(path, O_RDWR | O_CREAT);
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(descriptor_);
  throw UsageError("another attnbench is writing to " + folder + ": wait for it, or give another --out");
}

FolderLock::~FolderLock() { ::close(descriptor_); }

}  // namespace attn
