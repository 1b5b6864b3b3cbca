#include "harness/run/rotation.h"

#include <algorithm>

namespace attn {

int64_t rotating_sets(size_t set_bytes, size_t cache_bytes) {
  const size_t set = std::max(set_bytes, size_t{1});
  return std::max<int64_t>(1, static_cast<int64_t>((2 * cache_bytes + set - 1) / set));
}

}  // namespace attn
