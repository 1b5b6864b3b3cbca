#pragma once
// How much of a GPU's memory a variant takes: what PeakProbe (harness/measure/memory.h) is for a process.

#include <cstdint>
#include <optional>

#include "harness/run/device.h"

namespace attn {

/// Memory of our pool counts to the allocation; what libraries take past it counts as the device's memory
/// that went elsewhere meanwhile, in pages of 2 MiB and with that of other processes. What is taken and given
/// back past the pool within one call is not seen.
class DevicePeakProbe {
 public:
  /// Unused memory is given back first.
  explicit DevicePeakProbe(DeviceApi& api);
  /// Starts watching for a peak: call when what is taken now counts as well.
  void arm();
  /// Peak since arm(), above what was taken at construction; nothing where the device cannot tell.
  std::optional<int64_t> growth_bytes() const;
  /// Peak since arm() in the pool, above what was taken then: what calls allocated.
  std::optional<int64_t> allocated_bytes() const;

 private:
  DeviceApi& api_;
  std::optional<DeviceMemory> base_, armed_;
};

}  // namespace attn
