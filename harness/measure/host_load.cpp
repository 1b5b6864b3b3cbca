#include "harness/measure/host_load.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <numeric>
#include <sstream>
#include <vector>

namespace attn {
namespace {

/// The line that starts with `key`, without it.
std::istringstream line_of(const std::string& path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return std::istringstream(line.substr(key.size()));
  }
  return std::istringstream();
}

std::optional<double> share(double part, double whole) {
  if (whole <= 0) return std::nullopt;
  return std::clamp(part / whole, 0.0, 1.0);
}

}  // namespace

HostLoad read_host_load(const std::string& proc) {
  HostLoad load;
  load.time_s = std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
  std::istringstream cpu = line_of(proc + "/stat", "cpu ");
  std::vector<int64_t> jiffies;
  for (int64_t value; cpu >> value;) jiffies.push_back(value);
  constexpr size_t kSteal = 7;  // guest time, behind it, is inside user time
  if (jiffies.size() > kSteal) {
    load.steal_jiffies = jiffies[kSteal];
    load.all_jiffies = std::accumulate(jiffies.begin(), jiffies.begin() + kSteal + 1, int64_t{0});
  }
  std::istringstream pressure = line_of(proc + "/pressure/cpu", "some ");
  const std::string key = "total=";
  for (std::string word; pressure >> word;) {
    if (word.starts_with(key)) load.waiting_us = std::stoll(word.substr(key.size()));
  }
  return load;
}

std::optional<double> steal_fraction(const HostLoad& from, const HostLoad& to) {
  if (!from.all_jiffies || !to.all_jiffies) return std::nullopt;
  return share(static_cast<double>(*to.steal_jiffies - *from.steal_jiffies),
               static_cast<double>(*to.all_jiffies - *from.all_jiffies));
}

std::optional<double> cpu_pressure(const HostLoad& from, const HostLoad& to) {
  if (!from.waiting_us || !to.waiting_us) return std::nullopt;
  return share(static_cast<double>(*to.waiting_us - *from.waiting_us) * 1e-6, to.time_s - from.time_s);
}

}  // namespace attn
