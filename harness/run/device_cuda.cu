// Memory and clock of the first visible CUDA device. Nothing here touches CUDA before it is asked to, and a
// machine without device or driver only ever yields a reason.
//
// CUDA does not survive a fork: a process that has asked may start others only through exec.

#include <cuda_runtime.h>

#include <algorithm>

#include "harness/run/cuda_check.h"
#include "harness/run/device.h"

namespace attn {
namespace {

constexpr int kDevice = 0;
constexpr int kOldestMajor = 8;  // the build holds sm_80 code and later

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string find_reason() {
  int driver = 0, count = 0;
  if (cudaDriverGetVersion(&driver) != cudaSuccess || driver == 0) return "no CUDA device";
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaErrorInsufficientDriver) {
    return "CUDA driver supports " + version_text(driver) + ", this build needs " +
           version_text(CUDART_VERSION);
  }
  if (status == cudaErrorNoDevice || (status == cudaSuccess && count == 0)) return "no CUDA device";
  if (status != cudaSuccess) return std::string("CUDA device unusable: ") + cudaGetErrorString(status);
  int major = 0, minor = 0;
  if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, kDevice) != cudaSuccess ||
      cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, kDevice) != cudaSuccess) {
    return "CUDA device unusable: its compute capability cannot be read";
  }
  if (major < kOldestMajor) {
    return "CUDA device has compute capability " + std::to_string(major) + "." + std::to_string(minor) +
           ", this build needs 8.0 or later";
  }
  return "";
}

class CudaApi final : public DeviceApi {
 public:
  CudaApi() {
    ATTN_CUDA_CHECK(cudaSetDevice(kDevice));
    ATTN_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
    ATTN_CUDA_CHECK(cudaEventCreate(&start_));
    ATTN_CUDA_CHECK(cudaEventCreate(&stop_));
  }

  std::byte* allocate(size_t bytes) override {
    void* memory = nullptr;
    const cudaError_t status = cudaMalloc(&memory, std::max(bytes, size_t{1}));
    if (status == cudaErrorMemoryAllocation) {
      cudaGetLastError();
      throw OutOfMemory(bytes);
    }
    ATTN_CUDA_CHECK(status);
    return static_cast<std::byte*>(memory);
  }
  void release(std::byte* memory) noexcept override { cudaFree(memory); }

  void to_device(void* device, const void* host, size_t bytes) override { copy(device, host, bytes); }
  void to_host(void* host, const void* device, size_t bytes) override { copy(host, device, bytes); }
  void fill(void* device, uint8_t byte, size_t bytes) override {
    if (bytes) ATTN_CUDA_CHECK(cudaMemsetAsync(device, byte, bytes, stream_));
  }
  void synchronize() override { ATTN_CUDA_CHECK(cudaStreamSynchronize(stream_)); }
  void* stream() override { return stream_; }

  double time_s(int64_t calls, const std::function<void()>& work) override {
    ATTN_CUDA_CHECK(cudaEventRecord(start_, stream_));
    for (int64_t call = 0; call < calls; ++call) work();
    ATTN_CUDA_CHECK(cudaEventRecord(stop_, stream_));
    ATTN_CUDA_CHECK(cudaEventSynchronize(stop_));
    float elapsed_ms = 0;
    ATTN_CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, start_, stop_));
    return static_cast<double>(elapsed_ms) * 1e-3;
  }

  std::string description() override {
    cudaDeviceProp device;
    ATTN_CUDA_CHECK(cudaGetDeviceProperties(&device, kDevice));
    int driver = 0;
    ATTN_CUDA_CHECK(cudaDriverGetVersion(&driver));
    return std::string(device.name) + ", sm_" + std::to_string(device.major) + std::to_string(device.minor) +
           ", " + std::to_string(device.multiProcessorCount) + " SMs, " +
           std::to_string(device.totalGlobalMem >> 20) + " MiB, CUDA " + version_text(CUDART_VERSION) +
           ", driver for CUDA " + version_text(driver);
  }

 private:
  void copy(void* to, const void* from, size_t bytes) {
    if (bytes) ATTN_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
    synchronize();
  }

  cudaStream_t stream_ = nullptr;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
};

}  // namespace

namespace detail {

std::string cuda_missing() {
  static const std::string reason = find_reason();
  return reason;
}

DeviceApi& cuda_api() {
  static CudaApi* api = new CudaApi;  // never destroyed: at exit the driver may be gone already
  return *api;
}

}  // namespace detail
}  // namespace attn
