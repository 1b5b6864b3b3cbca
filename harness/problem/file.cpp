#include "harness/problem/file.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>

namespace attn {

std::string why_unreadable(const std::string& path, uint64_t most_bytes) {
  namespace fs = std::filesystem;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (status.type() == fs::file_type::not_found) return std::strerror(ENOENT);
  if (error) return error.message();
  if (fs::is_directory(status)) return "is a folder";
  if (!fs::is_regular_file(status)) return "is not a regular file";
  if (access(path.c_str(), R_OK) != 0) return std::strerror(errno);
  const uint64_t bytes = fs::file_size(path, error);
  if (error) return error.message();
  if (bytes > most_bytes) return "is larger than " + std::to_string(most_bytes) + " bytes";
  return "";
}

}  // namespace attn
