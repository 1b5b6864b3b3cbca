#pragma once
#include <unistd.h>

#include <cstdio>
#include <string>

namespace attn {

/// A block mask in a file of its own, removed at the end.
struct BlockFile {
  std::string path;
  explicit BlockFile(const std::string& content) {
    static int files = 0;
    path = "cuda_blocks_" + std::to_string(getpid()) + "_" + std::to_string(files++) +
           ".txt";  // test cases run side by side
    std::FILE* file = std::fopen(path.c_str(), "w");
    std::fputs(content.c_str(), file);
    std::fclose(file);
  }
  ~BlockFile() { std::remove(path.c_str()); }
};

}  // namespace attn
