#include "harness/measure/memory.h"

#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

namespace attn {
namespace {

/// A line `Key:   123 kB` of a /proc file, in bytes.
std::optional<int64_t> proc_bytes(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    if (line.compare(0, key.size(), key) == 0) return std::stoll(line.substr(key.size())) * 1024;
  }
  return std::nullopt;
}

std::optional<int64_t> number_in(const std::string& path) {
  std::ifstream file(path);
  int64_t value = 0;
  if (file >> value) return value;
  return std::nullopt;  // absent, or "max"
}

/// Path of this process's group below the mount point: line `0::PATH` (v2) or `N:memory:PATH` (v1).
std::string group_path(const std::string& controller) {
  std::ifstream file("/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    const size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    if (line.substr(first + 1, second - first - 1) == controller) return line.substr(second + 1);
  }
  return "/";
}

int64_t group_room(const std::string& folder, const char* limit_name, const char* usage_name) {
  const auto limit = number_in(folder + "/" + limit_name), usage = number_in(folder + "/" + usage_name);
  if (!limit || !usage) return std::numeric_limits<int64_t>::max();
  return std::max<int64_t>(0, *limit - *usage);
}

}  // namespace

std::optional<int64_t> resident_bytes() { return proc_bytes("/proc/self/status", "VmRSS:"); }

bool reset_peak_resident() {
  std::ofstream file("/proc/self/clear_refs");
  file << "5";
  file.flush();
  return file.good();
}

std::optional<int64_t> peak_resident_bytes() { return proc_bytes("/proc/self/status", "VmHWM:"); }

int64_t machine_memory_bytes() {
  return static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE);
}

int64_t available_memory_bytes() {
  int64_t room = proc_bytes("/proc/meminfo", "MemAvailable:").value_or(std::numeric_limits<int64_t>::max());
  const std::string v1 = "/sys/fs/cgroup/memory", v2 = "/sys/fs/cgroup";
  // Inside a container the group is usually mounted at the root, outside at its own path: look at both.
  for (const std::string& folder : {v2, v2 + group_path("")}) {
    room = std::min(room, group_room(folder, "memory.max", "memory.current"));
  }
  for (const std::string& folder : {v1, v1 + group_path("memory")}) {
    room = std::min(room, group_room(folder, "memory.limit_in_bytes", "memory.usage_in_bytes"));
  }
  return room;
}

PeakProbe::PeakProbe() {
  static const bool tuned = mallopt(M_MMAP_THRESHOLD, 128 * 1024) == 1;
  if (!tuned) return;
  malloc_trim(0);
  base_ = resident_bytes();
}

void PeakProbe::arm() { armed_ = reset_peak_resident(); }

std::optional<int64_t> PeakProbe::growth_bytes() const {
  const auto peak = peak_resident_bytes();
  if (!armed_ || !base_ || !peak) return std::nullopt;
  return std::max<int64_t>(0, *peak - *base_);
}

}  // namespace attn
