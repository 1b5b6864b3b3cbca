#pragma once
// The problems every variant is checked on: small and awkward. Sizes around tile edges, odd widths, all masks
// and positions, cross attention both ways, grouped heads, empty rows, forward and backward.

#include <filesystem>
#include <vector>

#include "harness/run/binding.h"

namespace attn {

struct Case {
  Problem problem;
  Layout layout = Layout::seq_major;
};

/// Block masks in files of their own temporary folder, removed with the object unless kept.
class BlockFiles {
 public:
  BlockFiles();
  BlockFiles(const BlockFiles&) = delete;
  ~BlockFiles();

  /// A file for this shape: about half of the blocks, the last block row empty.
  std::string make(int64_t seq_q, int64_t seq_kv, int64_t block_q, int64_t block_kv);
  void keep() { keep_ = true; }  ///< failures name these files

 private:
  std::filesystem::path folder_;
  bool keep_ = false;
};

enum class SuiteSize { quick, full };
std::vector<Case> check_cases(SuiteSize size, BlockFiles& files);
/// The fills of a suite: all eight, or those that between them catch every known-wrong control.
std::vector<Fill> check_fills(SuiteSize size);

}  // namespace attn
