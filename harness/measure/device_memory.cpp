#include "harness/measure/device_memory.h"

#include <algorithm>

namespace attn {
namespace {

int64_t excess(size_t now, size_t before) {
  return std::max<int64_t>(0, static_cast<int64_t>(now) - static_cast<int64_t>(before));
}

}  // namespace

DevicePeakProbe::DevicePeakProbe(DeviceApi& api) : api_(api) {
  api_.reset_peak();
  base_ = api_.memory();
}

void DevicePeakProbe::arm() {
  api_.reset_peak();
  armed_ = api_.memory();
}

std::optional<int64_t> DevicePeakProbe::growth_bytes() const {
  const std::optional<DeviceMemory> now = api_.memory();
  if (!now || !base_ || !armed_) return std::nullopt;
  return excess(now->used_peak, base_->used) + excess(now->outside, base_->outside);
}

std::optional<int64_t> DevicePeakProbe::allocated_bytes() const {
  const std::optional<DeviceMemory> now = api_.memory();
  if (!now || !armed_) return std::nullopt;
  return excess(now->used_peak, armed_->used);
}

}  // namespace attn
