#pragma once
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <random>
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

/// Its content for nq queries and nk keys: rows of blocks without a visible one, with all, and in between.
inline std::string random_blocks(std::mt19937& random, int64_t nq, int64_t nk, int64_t block_q,
                                 int64_t block_kv) {
  const int64_t rows = (nq + block_q - 1) / block_q, columns = (nk + block_kv - 1) / block_kv;
  std::string text;
  for (const int64_t number : {block_q, block_kv, rows, columns}) text += std::to_string(number) + ' ';
  text.back() = '\n';
  for (int64_t r = 0; r < rows; ++r) {
    const auto sparsity = std::uniform_int_distribution<int>(0, 4)(random);  // 4: empty
    std::string line;
    for (int64_t c = 0; c < columns; ++c) {
      if (sparsity == 4 || std::uniform_int_distribution<int>(0, sparsity)(random) != 0) continue;
      if (!line.empty()) line += ' ';
      line += std::to_string(c);
    }
    text += line + '\n';
  }
  return text;
}

}  // namespace attn
