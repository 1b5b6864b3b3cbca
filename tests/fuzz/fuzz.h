#pragma once
// What the fuzzers share. A reader may refuse its input with a UsageError of bounded length; anything else
// that leaves it (another exception, a signal, a sanitizer's report, more than 64 MiB) is a finding.

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "harness/problem/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace attn {

inline std::string_view text_of(const uint8_t* data, size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A finding that is no crash.
inline void require(bool holds) {
  if (!holds) std::abort();
}

/// Runs `read`; false where it refused.
template <class Read>
bool accepts(Read read) {
  try {
    read();
    return true;
  } catch (const UsageError& error) {
    require(!std::string_view(error.what()).empty());
    return false;
  }
}

/// A file in memory, for readers that take a path.
class MemoryFile {
 public:
  MemoryFile() : file_(memfd_create("fuzz", 0)), path("/proc/self/fd/" + std::to_string(file_)) {
    require(file_ >= 0);
  }
  MemoryFile(const MemoryFile&) = delete;
  ~MemoryFile() { close(file_); }

  void hold(const uint8_t* data, size_t size) {
    require(ftruncate(file_, 0) == 0 && pwrite(file_, data, size, 0) == static_cast<ssize_t>(size));
  }

 private:
  int file_;

 public:
  const std::string path;
};

}  // namespace attn
