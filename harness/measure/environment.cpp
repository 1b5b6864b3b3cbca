#include "harness/measure/environment.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <hwloc.h>
#include <omp.h>
#include <sched.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <ctime>
#include <fstream>
#include <set>
#include <sstream>

#include "attn_build_info.h"
#include "attn_commit.h"
#include "harness/measure/clock.h"
#include "harness/measure/memory.h"
#include "harness/measure/roofs.h"
#include "harness/run/device.h"

namespace attn {
namespace {

using nlohmann::json;

json text_or_null(const std::string& text) { return text.empty() ? json(nullptr) : json(text); }

std::string first_line(const std::string& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

/// Value of the first line `key : value` of a file.
std::string keyed_line(const char* path, const std::string& key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(':');
    if (line.compare(0, key.size(), key) != 0 || colon == std::string::npos) continue;
    const size_t begin = line.find_first_not_of(" \t", colon + 1);
    return begin == std::string::npos ? "" : line.substr(begin);
  }
  return "";
}

struct Topology {
  hwloc_topology_t handle = nullptr;
  Topology() {
    hwloc_topology_init(&handle);
    if (hwloc_topology_load(handle) != 0) throw std::runtime_error("hwloc cannot read the topology");
  }
  Topology(const Topology&) = delete;
  ~Topology() { hwloc_topology_destroy(handle); }
  int count(hwloc_obj_type_t type) const { return hwloc_get_nbobjs_by_type(handle, type); }
};

json describe_caches(const Topology& topology) {
  json caches = json::array();
  const std::pair<hwloc_obj_type_t, const char*> levels[] = {
      {HWLOC_OBJ_L1CACHE, "L1d"}, {HWLOC_OBJ_L2CACHE, "L2"}, {HWLOC_OBJ_L3CACHE, "L3"}};
  for (const auto& [type, name] : levels) {
    const int count = topology.count(type);
    if (count <= 0) continue;
    const auto* cache = hwloc_get_obj_by_type(topology.handle, type, 0);
    caches.push_back({{"level", name},
                      {"bytes", cache->attr->cache.size},
                      {"line_bytes", cache->attr->cache.linesize},
                      {"count", count}});
  }
  return caches;
}

json describe_cpu() {
  const Topology topology;
  const std::string cpufreq = "/sys/devices/system/cpu/cpu0/cpufreq/";
  const auto clock = core_clock_hz();
  return {{"model", cpu_model()},
          {"sockets", topology.count(HWLOC_OBJ_PACKAGE)},
          {"cores", topology.count(HWLOC_OBJ_CORE)},
          {"hardware_threads", topology.count(HWLOC_OBJ_PU)},
          {"usable_threads", available_threads()},
          {"caches", describe_caches(topology)},
          {"frequency_governor", text_or_null(first_line(cpufreq + "scaling_governor"))},
          {"frequency_driver", text_or_null(first_line(cpufreq + "scaling_driver"))},
          {"clock_hz", clock ? json(*clock) : json(nullptr)},
          {"boost", text_or_null(first_line("/sys/devices/system/cpu/cpufreq/boost"))},
          {"hypervisor", keyed_line("/proc/cpuinfo", "flags").find(" hypervisor") != std::string::npos}};
}

json describe_gpu() {
  if (!device_missing(Device::cuda).empty()) return nullptr;
  return {{"name", device_api(Device::cuda).description()}};
}

std::string system_name() {
  const std::string key = "PRETTY_NAME=\"";
  std::ifstream file("/etc/os-release");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with(key)) return line.substr(key.size(), line.size() - key.size() - 1);
  }
  return "";
}

json describe_build() {
  return {{"version", build::kVersion},
          {"commit", text_or_null(build::kCommit)},
          {"dirty", build::kDirty},
          {"compiler", build::kCompiler},
          {"build_type", build::kBuildType},
          {"flags", build::kFlags},
          {"cuda_compiler", text_or_null(build::kCudaCompiler)}};
}

json describe_libraries() {
  return {{"Google Benchmark", build::kGoogleBenchmark},
          {"Eigen", build::kEigen},
          {"Highway", build::kHighway},
          {"OpenBLAS", build::kOpenBlas},
          {"OpenMP", fmt::format("{}", _OPENMP)},
          {"fmt", build::kFmt},
          {"hwloc", build::kHwloc}};
}

}  // namespace

Roofs measure_roofs(std::vector<int> threads) {
  std::set<int> counts(threads.begin(), threads.end());
  counts.insert({1, available_threads()});
  Roofs roofs;
  roofs.target = fma_target();
  for (int count : counts) {
    roofs.fma_f32_flops_per_s[count] = fma_peak_flops_per_s(count);
    roofs.copy_bytes_per_s[count] = copy_bandwidth_bytes_per_s(count);
  }
  return roofs;
}

json to_json(const Roofs& roofs) {
  json by_threads = json::array();
  for (const auto& [threads, flops] : roofs.fma_f32_flops_per_s) {
    by_threads.push_back({{"threads", threads},
                          {"fma_f32_flops_per_s", flops},
                          {"copy_bytes_per_s", roofs.copy_bytes_per_s.at(threads)}});
  }
  return {{"target", roofs.target}, {"by_threads", by_threads}};
}

int available_threads() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) != 0) return omp_get_num_procs();
  return CPU_COUNT(&set);
}

json describe_environment() {
  utsname kernel{};
  uname(&kernel);
  return {{"cpu", describe_cpu()},
          {"memory_bytes", static_cast<int64_t>(sysconf(_SC_PHYS_PAGES)) * sysconf(_SC_PAGE_SIZE)},
          {"memory_available_bytes", available_memory_bytes()},
          {"gpu", describe_gpu()},
          {"system", text_or_null(system_name())},
          {"kernel", fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine)},
          {"clock_resolution_s", clock_resolution_s()},
          {"build", describe_build()},
          {"libraries", describe_libraries()}};
}

std::string build_commit() { return std::string(build::kCommit) + (build::kDirty ? "+changes" : ""); }

std::string cpu_model() {
  std::string model = keyed_line("/proc/cpuinfo", "model name");
  if (model.empty()) model = keyed_line("/proc/cpuinfo", "CPU implementer");
  return model.empty() ? "unknown" : model;
}

json steal_time() {
  std::istringstream line(first_line("/proc/stat"));
  std::string name;
  line >> name;
  std::vector<int64_t> jiffies;
  for (int64_t value; line >> value;) jiffies.push_back(value);
  if (jiffies.size() < 8) return nullptr;
  int64_t all = 0;
  for (size_t k = 0; k < 8; ++k) all += jiffies[k];  // guest time is inside user time
  return {{"steal_jiffies", jiffies[7]}, {"all_jiffies", all}};
}

std::string timestamp() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

}  // namespace attn
