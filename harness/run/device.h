#pragma once
// Memory and clock of a device, so that checking and measuring are written once for CPU and GPU.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <optional>
#include <stdexcept>
#include <string>

#include "harness/run/launch.h"
#include "harness/variant.h"

namespace attn {

/// An allocation that failed; becomes the status out_of_memory.
struct OutOfMemory : std::bad_alloc {
  explicit OutOfMemory(size_t bytes) : text("cannot allocate " + std::to_string(bytes) + " bytes") {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

/// What is taken of a GPU's memory.
struct DeviceMemory {
  size_t used =
      0;  ///< allocated from the process's pool, by the harness or by whoever asks the device's pool
  size_t used_peak = 0;  ///< largest `used` since reset_peak
  size_t outside =
      0;            ///< of the whole device, in no pool of ours: contexts, code, libraries, other processes
  size_t free = 0;  ///< what can still be allocated
};

class DeviceApi {
 public:
  virtual ~DeviceApi() = default;

  /// Aligned to Workspace::kAlignment; throws OutOfMemory. Release what was allocated here.
  virtual std::byte* allocate(size_t bytes) = 0;
  virtual void release(std::byte* memory) noexcept = 0;
  virtual void to_device(void* device, const void* host, size_t bytes) = 0;
  virtual void to_host(void* host, const void* device, size_t bytes) = 0;  ///< after everything enqueued
  virtual void copy(void* to, const void* from, size_t bytes) = 0;         ///< within the device
  virtual void fill(void* device, uint8_t byte, size_t bytes) = 0;
  /// Waits for everything enqueued; throws std::runtime_error where it failed.
  virtual void synchronize() = 0;
  virtual void* stream() = 0;
  /// Seconds for `calls` calls of `work`, back to back: steady clock on a CPU, events on a GPU. `meanwhile`
  /// runs once, on a GPU while it is at work.
  virtual double time_s(int64_t calls, const std::function<void()>& work,
                        const std::function<void()>& meanwhile) = 0;
  /// What `work` enqueues, recorded instead of done. Throws CannotCapture, and then the stream is as before;
  /// always on a CPU.
  virtual std::unique_ptr<DeviceGraph> capture(const std::function<void()>& work);
  /// Smallest step of the clock of time_s; nothing: that of the steady clock.
  virtual std::optional<double> clock_step_s() const { return std::nullopt; }
  /// Of the cache that a cold call must not find its operands in; 0: calls are not made cold.
  virtual size_t cache_bytes() const { return 0; }
  /// After everything enqueued; nothing for a CPU, whose memory is that of the process
  /// (harness/measure/memory.h), and where the device cannot tell.
  virtual std::optional<DeviceMemory> memory() { return std::nullopt; }
  /// Gives unused memory back and starts a new DeviceMemory::used_peak.
  virtual void reset_peak() {}
  /// Whether every further call would fail, as after a kernel's bad access: only a new process helps.
  virtual bool lost() noexcept { return false; }
};

/// What the driver says of a device, without taking any of it.
struct DeviceFacts {
  std::string description;
  std::string bus_id;  ///< of its PCI bus, which NVML knows it by
  size_t memory_bytes = 0, cache_bytes = 0;
  int multiprocessors = 0;
};

/// Empty where the device can be used, else why not ("no CUDA device", "built without CUDA").
std::string device_missing(Device device);
/// Throws std::runtime_error with the text of device_missing.
DeviceApi& device_api(Device device);
/// Of the GPU; throws as device_api.
DeviceFacts gpu_facts();
/// Gives the GPU back: its memory, context and DeviceApi, of which nothing may be in use. A process that has
/// used it would hold some hundred MiB of it, and keep others from a GPU that one process may use at a time.
void release_gpu();

namespace detail {  // harness/run/device_cuda.cu, or its stand-in where there is no nvcc
std::string cuda_missing();
DeviceApi& cuda_api();
DeviceFacts cuda_facts();
void cuda_release();
}  // namespace detail

/// Owns memory of a device.
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceApi& api, size_t bytes) : api_(&api), data_(api.allocate(bytes)), bytes_(bytes) {}
  DeviceBuffer(DeviceBuffer&& other) noexcept { *this = std::move(other); }
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(api_, other.api_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~DeviceBuffer() {
    if (data_) api_->release(data_);
  }
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  DeviceApi* api_ = nullptr;
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace attn
