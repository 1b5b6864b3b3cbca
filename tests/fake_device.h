#pragma once
// A device for tests: host memory with the books of a pool, a clock, and a stream whose work is done at once
// or, while it is captured, recorded.

#include <cstdlib>
#include <cstring>
#include <map>
#include <vector>

#include "harness/run/device.h"

namespace attn {

class FakeDevice : public DeviceApi {
 public:
  explicit FakeDevice(size_t cache) : cache_(cache) {}

  std::byte* allocate(size_t bytes) override {
    refuse_if_lost();
    if (capture_) capture_->allocates = true;
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
  void to_device(void* device, const void* host, size_t bytes) override {
    copy(device, host, bytes);
    synchronize();
  }
  void to_host(void* host, const void* device, size_t bytes) override {
    copy(host, device, bytes);
    synchronize();
  }
  void copy(void* to, const void* from, size_t bytes) override {
    if (capture_ && !is_allocated(from)) capture_->copies_from_host = true;
    enqueue([=] {
      if (bytes) std::memcpy(to, from, bytes);
    });
  }
  void fill(void* device, uint8_t byte, size_t bytes) override {
    enqueue([=] {
      if (bytes) std::memset(device, byte, bytes);
    });
  }
  void synchronize() override {
    refuse_if_lost();
    if (!capture_) return;
    capture_->is_broken = true;
    throw std::runtime_error("operation not permitted when stream is capturing");
  }
  void* stream() override { return this; }

  /// What a kernel does: at once, or at every launch of the graph that is captured.
  void enqueue(std::function<void()> work) {
    refuse_if_lost();
    if (capture_) return capture_->work.push_back(std::move(work));
    work();
  }
  /// Another stream that waits for this one, until join() makes this one wait for it. All its work may go to
  /// enqueue().
  void fork() { branches_ += capture_ != nullptr; }
  void join() { branches_ -= capture_ != nullptr; }

  std::unique_ptr<DeviceGraph> capture(const std::function<void()>& work) override {
    Capture captured;
    capture_ = &captured;
    branches_ = 0;
    const std::string thrown = thrown_by(work);
    capture_ = nullptr;
    refuse_if_lost();
    if (!thrown.empty()) throw CannotCapture(thrown);
    if (captured.is_broken) throw CannotCapture(kCapturesForbidden);
    if (branches_ != 0) throw CannotCapture(kCapturesUnjoined);
    if (captured.work.empty()) throw CannotCapture(kCapturesNothing);
    if (captured.allocates) throw CannotCapture(kCapturesAllocation);
    if (captured.copies_from_host) throw CannotCapture(kCapturesPageable);
    ++captures;
    return std::make_unique<Graph>(*this, std::move(captured.work));
  }
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
  int64_t captures = 0, launches = 0;  ///< of graphs

 private:
  using Recorded = std::vector<std::function<void()>>;
  struct Capture {
    Recorded work;
    bool is_broken = false, allocates = false, copies_from_host = false;
  };

  class Graph final : public DeviceGraph {
   public:
    Graph(FakeDevice& device, Recorded work) : device_(device), work_(std::move(work)) {}
    void launch() override {
      ++device_.launches;
      for (const auto& work : work_) device_.enqueue(work);
    }

   private:
    FakeDevice& device_;
    Recorded work_;
  };

  bool is_allocated(const void* address) const {
    const auto* const byte = static_cast<const std::byte*>(address);
    const auto after = sizes_.upper_bound(const_cast<std::byte*>(byte));
    return after != sizes_.begin() && byte < std::prev(after)->first + std::prev(after)->second;
  }
  void refuse_if_lost() const {
    if (is_lost) throw std::runtime_error("an illegal memory access was encountered");
  }

  size_t cache_;
  std::map<std::byte*, size_t> sizes_;
  Capture* capture_ = nullptr;
  int branches_ = 0;
};

}  // namespace attn
