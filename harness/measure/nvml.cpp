#include "harness/measure/nvml.h"

#include <dlfcn.h>

#include <cstdlib>
#include <utility>

#include "harness/run/device.h"

namespace attn {
namespace {

using nlohmann::json;

// The few declarations of NVML that are needed, after its documentation (NVML API reference). Enumerations
// are passed as int; every function returns 0 for success.
constexpr int kSmClock = 1, kMemoryClock = 2;
constexpr int kGpuTemperature = 0;
constexpr unsigned kVersionBytes = 80;

constexpr std::pair<uint64_t, const char*> kThrottleReasons[] = {
    {0x04, "power_cap"},    // software: the power limit
    {0x08, "hw_slowdown"},  // hardware: temperature, power or an external signal
    {0x20, "sw_thermal"},  {0x40, "hw_thermal"}, {0x80, "power_brake"},
};

json number_or_null(const std::optional<double>& value) { return value ? json(*value) : json(); }

json on_or_off(bool known, bool on) { return !known ? json() : json(on ? "on" : "off"); }

}  // namespace

struct Nvml::Functions {
  explicit Functions(void* opened) : library(opened) {}
  ~Functions() {
    if (shutdown && initialized) shutdown();
    dlclose(library);
  }

  /// The function of the first name that the library has; null where it has none.
  template <class Function>
  void find(Function*& function, std::initializer_list<const char*> names) const {
    for (const char* name : names) {
      function = reinterpret_cast<Function*>(dlsym(library, name));
      if (function) return;
    }
  }

  void* library;
  bool initialized = false;
  int (*init)() = nullptr;
  int (*shutdown)() = nullptr;
  const char* (*error_text)(int) = nullptr;
  int (*handle_by_bus_id)(const char*, void**) = nullptr;
  int (*driver_version)(char*, unsigned) = nullptr;
  int (*clock)(void*, int, unsigned*) = nullptr;      // MHz
  int (*max_clock)(void*, int, unsigned*) = nullptr;  // MHz
  int (*reasons)(void*, unsigned long long*) = nullptr;
  int (*power)(void*, unsigned*) = nullptr;                // mW
  int (*power_limit)(void*, unsigned*) = nullptr;          // mW
  int (*default_power_limit)(void*, unsigned*) = nullptr;  // mW
  int (*temperature)(void*, int, unsigned*) = nullptr;     // degrees Celsius
  int (*persistence)(void*, int*) = nullptr;
  int (*ecc)(void*, int*, int*) = nullptr;            // now, after the next reset
  int (*mig)(void*, unsigned*, unsigned*) = nullptr;  // now, after the next reset

  std::string explain(int status) const {
    return error_text ? error_text(status) : "error " + std::to_string(status);
  }
};

std::string throttle_text(uint64_t reasons) {
  std::string text;
  for (const auto& [bit, name] : kThrottleReasons) {
    if (!(reasons & bit)) continue;
    if (!text.empty()) text += '+';
    text += name;
  }
  return text.empty() ? "no" : text;
}

Nvml::Nvml(const std::string& library, const std::string& bus_id) : missing_(load(library, bus_id)) {}

Nvml::~Nvml() = default;

std::string Nvml::load(const std::string& library, const std::string& bus_id) {
  void* opened = dlopen(library.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!opened) return "NVML: " + std::string(dlerror());
  functions_ = std::make_unique<Functions>(opened);
  Functions& f = *functions_;
  f.find(f.init, {"nvmlInit_v2"});
  f.find(f.shutdown, {"nvmlShutdown"});
  f.find(f.error_text, {"nvmlErrorString"});
  f.find(f.handle_by_bus_id, {"nvmlDeviceGetHandleByPciBusId_v2"});
  f.find(f.driver_version, {"nvmlSystemGetDriverVersion"});
  f.find(f.clock, {"nvmlDeviceGetClockInfo"});
  f.find(f.max_clock, {"nvmlDeviceGetMaxClockInfo"});
  f.find(f.reasons, {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"});
  f.find(f.power, {"nvmlDeviceGetPowerUsage"});
  f.find(f.power_limit, {"nvmlDeviceGetEnforcedPowerLimit"});
  f.find(f.default_power_limit, {"nvmlDeviceGetPowerManagementDefaultLimit"});
  f.find(f.temperature, {"nvmlDeviceGetTemperature"});
  f.find(f.persistence, {"nvmlDeviceGetPersistenceMode"});
  f.find(f.ecc, {"nvmlDeviceGetEccMode"});
  f.find(f.mig, {"nvmlDeviceGetMigMode"});
  if (!f.init || !f.shutdown || !f.handle_by_bus_id) return "NVML: " + library + " lacks its functions";
  if (const int status = f.init(); status != 0) return "NVML: " + f.explain(status);
  f.initialized = true;
  if (const int status = f.handle_by_bus_id(bus_id.c_str(), &device_); status != 0) {
    return "NVML: no device on PCI bus " + bus_id + ": " + f.explain(status);
  }
  return "";
}

namespace {

/// One number, in units of `unit`; nothing where the function is lacking or fails.
std::optional<double> ask(double unit, int (*function)(void*, unsigned*), void* device) {
  unsigned value = 0;
  if (!function || function(device, &value) != 0) return std::nullopt;
  return value * unit;
}
std::optional<double> ask(double unit, int (*function)(void*, int, unsigned*), void* device, int kind) {
  unsigned value = 0;
  if (!function || function(device, kind, &value) != 0) return std::nullopt;
  return value * unit;
}

}  // namespace

ClockReading Nvml::clock() const {
  if (!missing_.empty()) return {};
  ClockReading reading;
  reading.hz = ask(1e6, functions_->clock, device_, kSmClock);
  unsigned long long reasons = 0;
  if (functions_->reasons && functions_->reasons(device_, &reasons) == 0) {
    reading.throttled = throttle_text(reasons);
  }
  return reading;
}

json Nvml::configuration() const {
  if (!missing_.empty()) return nullptr;
  const Functions& f = *functions_;
  char version[kVersionBytes] = "";
  const bool named = f.driver_version && f.driver_version(version, kVersionBytes) == 0;
  int persistence = 0, ecc = 0, ecc_later = 0;
  unsigned mig = 0, mig_later = 0;
  const bool has_persistence = f.persistence && f.persistence(device_, &persistence) == 0;
  const bool has_ecc = f.ecc && f.ecc(device_, &ecc, &ecc_later) == 0;
  const bool has_mig = f.mig && f.mig(device_, &mig, &mig_later) == 0;
  return {{"driver", named ? json(version) : json()},
          {"power_limit_w", number_or_null(ask(1e-3, f.power_limit, device_))},
          {"power_limit_default_w", number_or_null(ask(1e-3, f.default_power_limit, device_))},
          {"sm_clock_max_hz", number_or_null(ask(1e6, f.max_clock, device_, kSmClock))},
          {"memory_clock_max_hz", number_or_null(ask(1e6, f.max_clock, device_, kMemoryClock))},
          {"persistence", on_or_off(has_persistence, persistence)},
          {"ecc", on_or_off(has_ecc, ecc)},
          {"mig", on_or_off(has_mig, mig)}};
}

json Nvml::state() const {
  if (!missing_.empty()) return nullptr;
  const ClockReading reading = clock();
  return {{"power_w", number_or_null(ask(1e-3, functions_->power, device_))},
          {"temperature_c", number_or_null(ask(1, functions_->temperature, device_, kGpuTemperature))},
          {"sm_clock_hz", number_or_null(reading.hz)},
          {"memory_clock_hz", number_or_null(ask(1e6, functions_->clock, device_, kMemoryClock))},
          {"throttled", reading.throttled.empty() ? json() : json(reading.throttled)}};
}

const Nvml& gpu_monitor() {
  static const Nvml monitor = [] {
    const char* named = std::getenv("ATTN_NVML");
    return Nvml(named && *named ? named : "libnvidia-ml.so.1", gpu_facts().bus_id);
  }();
  return monitor;
}

}  // namespace attn
