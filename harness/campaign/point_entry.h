#pragma once
// A variant at a point, in the worker: its row, and what it is bound to while it may still be timed.

#include <functional>
#include <memory>

#include "harness/campaign/protocol.h"
#include "harness/measure/rounds.h"
#include "harness/run/binding.h"

namespace attn {

/// What the column `cache` says of samples on a GPU.
inline constexpr const char *kColdSamples = "cold", *kHotSamples = "hot";

struct PointEntry {
  int32_t index;  ///< in the job
  const Variant* variant;
  ResultRow row;
  size_t bytes = 0;         ///< predicted
  size_t device_bytes = 0;  ///< predicted, of a GPU's memory
  std::unique_ptr<Binding> binding;
  std::vector<SampleRow> samples;
  ClockReading clock;     ///< of a GPU, during the last sample
  double variant_s = 0;   ///< in its own calls
  bool finished = false;  ///< has a status already
  bool emitted = false;

  bool on_gpu() const { return variant->info().device == Device::cuda; }
  DeviceApi& api() const { return device_api(variant->info().device); }

  /// One call, to its end.
  void call(Binding& bound);
  double time_s(int64_t calls, CacheState cache);
  /// Points at this entry.
  TimedCase timed(CacheState cache);
  /// A status but ok drops the times.
  void finish(Status status, std::string reason);
  /// Runs `work`; what it throws becomes the status.
  void guard(const std::function<void()>& work);
};

}  // namespace attn
