#pragma once
// The memory levels of this machine as a number of threads sees them, and how much of each the bandwidth
// roofs walk over.

#include <cstdint>
#include <string>
#include <vector>

#include "harness/measure/topology.h"

namespace attn {

struct RoofLevel {
  std::string name;             ///< L1, L2, L3 or DRAM
  int64_t bytes = 0;            ///< the threads' instances of it together
  int64_t bytes_of_thread = 0;  ///< what each thread walks over
};

/// Smallest first, DRAM last. Threads are taken to be spread over the instances of a cache.
std::vector<RoofLevel> roof_levels(const std::vector<Cache>& caches, int64_t memory_bytes,
                                   int64_t available_bytes, int threads);

}  // namespace attn
