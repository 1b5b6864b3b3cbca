#pragma once
// What can be known of the clocks: the smallest step of the timer and the core's frequency.

#include <optional>
#include <string>

namespace attn {

/// Smallest difference seen between two readings of the steady clock; measured once.
double clock_resolution_s();
/// Frequency of the core this thread runs on, from cpufreq; nothing where the system hides it (virtual
/// machines).
std::optional<double> core_clock_hz();

/// What a device's clock did around a sample.
struct ClockReading {
  std::optional<double> hz;
  std::string throttled;  ///< "no", or why, joined by +; empty where it cannot be told
};

}  // namespace attn
