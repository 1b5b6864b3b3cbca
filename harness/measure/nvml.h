#pragma once
// A GPU's clock, power and temperature, as its driver's management library (NVML) tells them. The library is
// looked for when first needed, never linked: the same program runs where there is no driver.

#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "harness/measure/clock.h"

namespace attn {

/// NVML's reasons why a clock is lower than it could be, as text: "no" where none of them slows the device
/// down, else their names joined by +. Being idle, or at a clock that was set, is no throttling.
std::string throttle_text(uint64_t reasons);

class Nvml {
 public:
  /// `library`: a path or file name; `bus_id`: of the device's PCI bus. What goes wrong is in missing().
  Nvml(const std::string& library, const std::string& bus_id);
  Nvml(const Nvml&) = delete;
  ~Nvml();

  /// Empty where the device can be read, else why not, in one line.
  const std::string& missing() const { return missing_; }

  /// Of the multiprocessors, now.
  ClockReading clock() const;
  /// What belongs to the machine: driver, power limits, largest clocks, persistence, ECC, MIG; null for what
  /// this device or driver does not tell.
  nlohmann::json configuration() const;
  /// What belongs to the moment: power_w, temperature_c, sm_clock_hz, memory_clock_hz, throttled.
  nlohmann::json state() const;

 private:
  struct Functions;

  std::string load(const std::string& library, const std::string& bus_id);

  std::unique_ptr<Functions> functions_;
  void* device_ = nullptr;
  std::string missing_;
};

/// Of the GPU that is measured (there must be one), from libnvidia-ml.so.1, or the library that the
/// environment variable ATTN_NVML names.
const Nvml& gpu_monitor();

}  // namespace attn
