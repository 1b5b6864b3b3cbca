#pragma once
// A device for tests: host memory with the books of a pool, and a clock.

#include <cstdlib>
#include <cstring>
#include <map>

#include "harness/run/device.h"

namespace attn {

class FakeDevice : public DeviceApi {
 public:
  explicit FakeDevice(size_t cache) : cache_(cache) {}

  std::byte* allocate(size_t bytes) override {
    refuse_if_lost();
    if (books.used + bytes > capacity) throw OutOfMemory(bytes);
    auto* memory = static_cast<std::byte*>(
        std::aligned_alloc(Workspace::kAlignment,
                           (bytes + Workspace::kAlignment) / Workspace::kAlignment * Workspace::kAlignment));
    sizes_[memory] = bytes;
    books.used += bytes;
    books.used_peak = std::max(books.used_peak, books.used);
    return memory;
  }
  void release(std::byte* memory) noexcept override {
    books.used -= sizes_[memory];
    sizes_.erase(memory);
    std::free(memory);
  }
  void to_device(void* device, const void* host, size_t bytes) override { copy(device, host, bytes); }
  void to_host(void* host, const void* device, size_t bytes) override { copy(host, device, bytes); }
  void copy(void* to, const void* from, size_t bytes) override {
    refuse_if_lost();
    if (bytes) std::memcpy(to, from, bytes);
  }
  void fill(void* device, uint8_t byte, size_t bytes) override {
    if (bytes) std::memset(device, byte, bytes);
  }
  void synchronize() override { refuse_if_lost(); }
  void* stream() override { return this; }
  /// `seconds_per_call` where it is set, else what the calls take.
  double time_s(int64_t calls, const std::function<void()>& work,
                const std::function<void()>& meanwhile) override {
    const double took = device_api(Device::cpu).time_s(calls, work, [] {});
    meanwhile();
    return seconds_per_call > 0 ? seconds_per_call * static_cast<double>(calls) : took;
  }
  std::optional<double> clock_step_s() const override { return 0.5e-6; }
  size_t cache_bytes() const override { return cache_; }
  std::optional<DeviceMemory> memory() override {
    books.free = capacity - books.used;
    return books;
  }
  void reset_peak() override { books.used_peak = books.used; }
  bool lost() noexcept override { return is_lost; }

  DeviceMemory books;
  size_t capacity = size_t{1} << 30;
  double seconds_per_call = 0;
  bool is_lost = false;

 private:
  void refuse_if_lost() const {
    if (is_lost) throw std::runtime_error("an illegal memory access was encountered");
  }

  size_t cache_;
  std::map<std::byte*, size_t> sizes_;
};

}  // namespace attn
