#pragma once
// What can be known of the clocks: the smallest step of the timer and the core's frequency.

#include <optional>

namespace attn {

/// Smallest difference seen between two readings of the steady clock; measured once.
double clock_resolution_s();
/// Frequency of the core this thread runs on, from cpufreq; nothing where the system hides it (virtual
/// machines).
std::optional<double> core_clock_hz();

}  // namespace attn
