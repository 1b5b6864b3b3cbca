// A .npy file, read as both types.

#include "harness/run/npy.h"
#include "tests/fuzz/fuzz.h"

template <class Real>
static void read(const std::string& path) {
  attn::NpyArray<Real> array;
  if (!attn::accepts([&] { array = attn::read_npy<Real>(path); })) return;
  uint64_t elements = 1;
  for (int64_t extent : array.shape) elements *= static_cast<uint64_t>(extent);
  attn::require(array.values.size() == elements);
}

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static attn::MemoryFile file;
  file.hold(data, size);
  read<float>(file.path);
  read<double>(file.path);
  return 0;
}
