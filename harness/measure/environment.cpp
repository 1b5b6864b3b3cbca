#include "harness/measure/environment.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <omp.h>
#include <sched.h>
#include <sys/utsname.h>

#include <cstdlib>
#include <ctime>
#include <fstream>

#include "attn_build_info.h"
#include "attn_commit.h"
#include "harness/measure/clock.h"
#include "harness/measure/memory.h"
#include "harness/measure/nvml.h"
#include "harness/measure/topology.h"
#include "harness/registry.h"
#include "harness/run/blas.h"
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

json describe_caches(const std::vector<Cache>& caches) {
  json list = json::array();
  for (const Cache& cache : caches) {
    list.push_back({{"level", cache.level},
                    {"bytes", cache.bytes},
                    {"line_bytes", cache.line_bytes},
                    {"count", cache.count},
                    {"cores", cache.cores}});
  }
  return list;
}

json describe_cpu() {
  const Topology& machine = topology();
  const std::string cpufreq = "/sys/devices/system/cpu/cpu0/cpufreq/";
  const auto clock = core_clock_hz();
  return {{"model", cpu_model()},
          {"sockets", machine.sockets},
          {"cores", machine.cores},
          {"hardware_threads", machine.hardware_threads},
          {"usable_threads", available_threads()},
          {"caches", describe_caches(machine.caches)},
          {"frequency_governor", text_or_null(first_line(cpufreq + "scaling_governor"))},
          {"frequency_driver", text_or_null(first_line(cpufreq + "scaling_driver"))},
          {"clock_hz", clock ? json(*clock) : json(nullptr)},
          {"boost", text_or_null(first_line("/sys/devices/system/cpu/cpufreq/boost"))},
          {"hypervisor", keyed_line("/proc/cpuinfo", "flags").find(" hypervisor") != std::string::npos}};
}

json describe_gpu() {
  if (!device_missing(Device::cuda).empty()) return nullptr;
  const DeviceFacts facts = gpu_facts();
  return {{"name", facts.description},
          {"multiprocessors", facts.multiprocessors},
          {"memory_bytes", facts.memory_bytes},
          {"cache_bytes", facts.cache_bytes},
          {"nvml", gpu_monitor().configuration()},
          {"nvml_missing", text_or_null(gpu_monitor().missing())}};
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
  const Blas blas = describe_blas();
  json libraries = {{"Google Benchmark", build::kGoogleBenchmark},
                    {"Eigen", build::kEigen},
                    {"Highway", build::kHighway},
                    {blas.name, fmt::format("{} ({} kernels)", blas.version, blas.kernels)},
                    {"OpenMP", fmt::format("{}", _OPENMP)},
                    {"fmt", build::kFmt},
                    {"hwloc", build::kHwloc}};
  // Libraries behind peers, by the variant's name.
  for (const Variant* variant : all_variants()) {
    if (!variant->info().version.empty()) libraries[variant->info().name] = variant->info().version;
  }
  return libraries;
}

}  // namespace

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
          {"memory_bytes", machine_memory_bytes()},
          {"memory_available_bytes", available_memory_bytes()},
          {"gpu", describe_gpu()},
          {"system", text_or_null(system_name())},
          {"kernel", fmt::format("{} {} {}", kernel.sysname, kernel.release, kernel.machine)},
          {"clock_resolution_s", clock_resolution_s()},
          {"build", describe_build()},
          {"libraries", describe_libraries()}};
}

json gpu_state() { return device_missing(Device::cuda).empty() ? gpu_monitor().state() : json(); }

std::string build_commit() { return std::string(build::kCommit) + (build::kDirty ? "+changes" : ""); }

std::string cpu_model() {
  std::string model = keyed_line("/proc/cpuinfo", "model name");
  if (model.empty()) model = keyed_line("/proc/cpuinfo", "CPU implementer");
  return model.empty() ? "unknown" : model;
}

std::string node_name() {
  if (const char* name = std::getenv("SLURMD_NODENAME"); name && *name) return name;
  utsname host{};
  uname(&host);
  return host.nodename;
}

std::string timestamp() { return fmt::format("{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::time(nullptr))); }

}  // namespace attn
