#include "harness/measure/clock.h"

#include <fmt/format.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <fstream>

namespace attn {

double clock_resolution_s() {
  static const double resolution = [] {
    double smallest = 1;
    for (int trial = 0; trial < 200; ++trial) {
      const auto start = std::chrono::steady_clock::now();
      auto next = start;
      while (next == start) next = std::chrono::steady_clock::now();
      smallest = std::min(smallest, std::chrono::duration<double>(next - start).count());
    }
    return smallest;
  }();
  return resolution;
}

std::optional<double> core_clock_hz() {
  static const bool readable = std::ifstream("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq").good();
  if (!readable) return std::nullopt;
  std::ifstream file(fmt::format("/sys/devices/system/cpu/cpu{}/cpufreq/scaling_cur_freq", sched_getcpu()));
  double khz = 0;
  if (!(file >> khz) || khz <= 0) return std::nullopt;
  return khz * 1e3;
}

}  // namespace attn
