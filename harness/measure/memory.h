#pragma once
// Memory of this process and of the machine, as the Linux kernel tells it.

#include <cstdint>
#include <optional>

namespace attn {

/// Resident bytes of this process now.
std::optional<int64_t> resident_bytes();
/// Sets the peak of peak_resident_bytes to what is resident now; false where the kernel refuses.
bool reset_peak_resident();
/// Largest resident bytes since the last reset (VmHWM).
std::optional<int64_t> peak_resident_bytes();
/// Physical memory of the machine.
int64_t machine_memory_bytes();
/// Memory a new process can use: MemAvailable, or what a control group (v1 or v2) leaves of its limit if that
/// is less.
int64_t available_memory_bytes();

/// Peak of the process above what was resident at construction. Freed memory is given back to the system
/// first and blocks from 128 KiB on are mapped, so that reuse of old pages does not hide growth.
class PeakProbe {
 public:
  PeakProbe();
  /// Starts watching for a peak: call when what is resident now counts as well.
  void arm();
  /// Nothing where /proc does not allow it.
  std::optional<int64_t> growth_bytes() const;

 private:
  std::optional<int64_t> base_;
  bool armed_ = false;
};

}  // namespace attn
