#include "harness/run/device.h"

#include <sys/mman.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

namespace attn {
namespace {

/// Large tensors lie on huge pages wherever the system grants them to those who ask: in [batch, seq, head,
/// width] the rows of one head share a small page with few others, and its misses would be timed. Whether a
/// system hands huge pages out unasked no longer changes a result.
constexpr size_t kHugePage = size_t{2} << 20;

class CpuApi final : public DeviceApi {
 public:
  std::byte* allocate(size_t bytes) override {
    const bool large = bytes >= 2 * kHugePage;
    const size_t alignment = large ? kHugePage : Workspace::kAlignment;
    const size_t padded = (bytes + Workspace::kAlignment - 1) / Workspace::kAlignment * Workspace::kAlignment;
    void* memory = nullptr;
    if (posix_memalign(&memory, alignment, padded + Workspace::kAlignment) != 0) throw OutOfMemory(bytes);
    if (large) madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // a refusal is no error
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) noexcept override { std::free(memory); }
  void to_device(void* device, const void* host, size_t bytes) override {
    if (bytes) std::memcpy(device, host, bytes);
  }
  void to_host(void* host, const void* device, size_t bytes) override {
    if (bytes) std::memcpy(host, device, bytes);
  }
  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes) std::memcpy(to, from, bytes);
  }
  void fill(void* device, uint8_t byte, size_t bytes) override {
    if (bytes) std::memset(device, byte, bytes);
  }
  void synchronize() override {}
  void* stream() override { return nullptr; }
  double time_s(int64_t calls, const std::function<void()>& work,
                const std::function<void()>& meanwhile) override {
    const auto start = std::chrono::steady_clock::now();
    for (int64_t call = 0; call < calls; ++call) work();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    meanwhile();
    return elapsed.count();
  }
};

}  // namespace

std::unique_ptr<DeviceGraph> DeviceApi::capture(const std::function<void()>&) {
  throw CannotCapture(kNoGraphs);
}

std::string device_missing(Device device) { return device == Device::cuda ? detail::cuda_missing() : ""; }

DeviceApi& device_api(Device device) {
  static CpuApi cpu;
  if (device == Device::cpu) return cpu;
  if (const std::string reason = device_missing(device); !reason.empty()) throw std::runtime_error(reason);
  return detail::cuda_api();
}

DeviceFacts gpu_facts() {
  if (const std::string reason = detail::cuda_missing(); !reason.empty()) throw std::runtime_error(reason);
  return detail::cuda_facts();
}

void release_gpu() {
  if (detail::cuda_missing().empty()) detail::cuda_release();
}

}  // namespace attn
