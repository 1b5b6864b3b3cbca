#pragma once
// Memory and clock of a device, so that checking and measuring are written once for CPU and GPU.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <new>
#include <stdexcept>
#include <string>

#include "harness/variant.h"

namespace attn {

/// An allocation that failed; becomes the status out_of_memory.
struct OutOfMemory : std::bad_alloc {
  explicit OutOfMemory(size_t bytes) : text("cannot allocate " + std::to_string(bytes) + " bytes") {}
  const char* what() const noexcept override { return text.c_str(); }
  std::string text;
};

class DeviceApi {
 public:
  virtual ~DeviceApi() = default;

  /// Aligned to Workspace::kAlignment; throws OutOfMemory. Release what was allocated here.
  virtual std::byte* allocate(size_t bytes) = 0;
  virtual void release(std::byte* memory) noexcept = 0;
  virtual void to_device(void* device, const void* host, size_t bytes) = 0;
  virtual void to_host(void* host, const void* device, size_t bytes) = 0;  ///< after everything enqueued
  virtual void fill(void* device, uint8_t byte, size_t bytes) = 0;
  /// Waits for everything enqueued; throws std::runtime_error where it failed.
  virtual void synchronize() = 0;
  virtual void* stream() = 0;
  /// Seconds for `calls` calls of `work`, back to back: steady clock on a CPU, events on a GPU.
  virtual double time_s(int64_t calls, const std::function<void()>& work) = 0;
  virtual std::string description() = 0;
};

/// Empty where the device can be used, else why not ("no CUDA device", "built without CUDA").
std::string device_missing(Device device);
/// Throws std::runtime_error with the text of device_missing.
DeviceApi& device_api(Device device);

namespace detail {  // harness/run/device_cuda.cu, or its stand-in where there is no nvcc
std::string cuda_missing();
DeviceApi& cuda_api();
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
