// The file of a block mask.

#include "harness/problem/mask.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace attn;
  static MemoryFile file;
  file.hold(data, size);
  BlockMask mask;
  if (!accepts([&] { mask = BlockMask::read(file.path); })) return 0;
  require(static_cast<int64_t>(mask.visible.size()) == mask.rows * mask.columns);
  return 0;
}
