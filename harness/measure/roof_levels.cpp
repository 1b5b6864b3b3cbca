#include "harness/measure/roof_levels.h"

#include <algorithm>

namespace attn {
namespace {

/// Two halves of whole read granules each.
constexpr int64_t kSetGranule = 2 * 4096;

int64_t share_of(int64_t bytes, int threads) {
  return std::max<int64_t>(1, bytes / threads / kSetGranule) * kSetGranule;
}

/// Half of a private cache, a quarter of the last one, which others use too. But well more than the level
/// below holds, or that one would answer: eight cores of 1 MiB L2 each behind 32 MiB of L3 would never leave
/// L2.
int64_t bytes_walked(const Cache& cache, int64_t capacity, int64_t below) {
  const int64_t usual = cache.level == "L3" ? capacity / 4 : capacity / 2;
  return std::min(std::max(usual, below + below / 2), capacity / 4 * 3);
}

}  // namespace

std::vector<RoofLevel> roof_levels(const std::vector<Cache>& caches, int64_t memory_bytes,
                                   int64_t available_bytes, int threads) {
  std::vector<RoofLevel> levels;
  int64_t below = 0;
  for (const Cache& cache : caches) {
    const int64_t capacity = cache.bytes * std::min(threads, cache.count);
    const std::string name = cache.level.substr(0, 2);  // the d of L1d says nothing here
    levels.push_back({name, capacity, share_of(bytes_walked(cache, capacity, below), threads)});
    below = capacity;
  }
  constexpr int64_t kLeastDram = int64_t{256} << 20;
  const int64_t dram = std::min(std::max(4 * below, kLeastDram), available_bytes / 4);
  levels.push_back({"DRAM", memory_bytes, share_of(dram, threads)});
  return levels;
}

}  // namespace attn
