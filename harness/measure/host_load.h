#pragma once
// What else the host was doing: CPU time taken by other virtual machines, and tasks that waited for a CPU.

#include <cstdint>
#include <optional>
#include <string>

namespace attn {

/// Counters since boot; what the kernel does not tell is absent.
struct HostLoad {
  std::optional<int64_t> steal_jiffies, all_jiffies;
  std::optional<int64_t> waiting_us;  ///< time in which some task waited for a CPU (PSI)
  double time_s = 0;                  ///< monotonic
};

/// `proc` is where the kernel's files lie.
HostLoad read_host_load(const std::string& proc = "/proc");

/// Between two readings; both from 0 to 1, absent where unreadable or where no time has passed.
std::optional<double> steal_fraction(const HostLoad& from, const HostLoad& to);
std::optional<double> cpu_pressure(const HostLoad& from, const HostLoad& to);

}  // namespace attn
