#pragma once
// Processors and caches of this machine, as hwloc sees them.

#include <cstdint>
#include <string>
#include <vector>

namespace attn {

struct Cache {
  std::string level;  ///< L1d, L2 or L3
  int64_t bytes = 0;  ///< of one instance
  int64_t line_bytes = 0;
  int count = 0;  ///< instances
};

struct Topology {
  int sockets = 0, cores = 0, hardware_threads = 0;
  std::vector<Cache> caches;  ///< smallest level first; levels the machine lacks are absent
};

/// Throws std::runtime_error where hwloc cannot read it.
Topology read_topology();

}  // namespace attn
