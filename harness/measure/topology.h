#pragma once
// Processors and caches of this machine, as hwloc sees them.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace attn {

/// A level, as the CPUs that this process may run on have it.
struct Cache {
  std::string level;       ///< L1d, L2 or L3
  int64_t bytes = 0;       ///< of one instance, the smallest where they differ
  int64_t line_bytes = 0;  ///< 0 where unknown
  int count = 0;           ///< instances
  int cores = 1;           ///< that share one instance, at most
};

struct Topology {
  int sockets = 0, cores = 0, hardware_threads = 0;
  std::vector<Cache> caches;  ///< smallest level first; levels the machine lacks are absent

  /// What one core has of a level where every core takes its share; 0 where the level is absent.
  int64_t bytes_of_core(std::string_view level) const;
};

/// Read once, at the first call: later CPU bindings are not seen. Throws std::runtime_error where hwloc
/// cannot read it.
const Topology& topology();

}  // namespace attn
