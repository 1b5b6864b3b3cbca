// The first visible CUDA device: whether it can be used, what it is, and its memory and clock. Nothing here
// touches CUDA before it is asked to, and a machine without device or driver only ever yields a reason.
//
// CUDA does not survive a fork: a process that has asked may start others only through exec.

#include <cuda_runtime.h>

#include <memory>

#include "harness/run/cuda_check.h"
#include "harness/run/cuda_gate.h"
#include "harness/run/cuda_graph.h"
#include "harness/run/cuda_pool.h"
#include "harness/run/device.h"

namespace attn {
namespace {

constexpr int kDevice = 0;
constexpr int kOldestMajor = 8;  // the build holds sm_80 code and later
/// Calls enqueued before the first of them starts. A stream takes about 1000 launches before the host waits,
/// and a call may be a dozen of them.
constexpr int64_t kHeldCalls = 64;
/// Events tell about half a microsecond apart (CUDA programming interface, cudaEventElapsedTime).
constexpr double kEventStep_s = 0.5e-6;

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
  CudaApi() : stream_(make_stream()), pool_(kDevice, stream_) {
    ATTN_CUDA_CHECK(cudaEventCreate(&start_));
    ATTN_CUDA_CHECK(cudaEventCreate(&stop_));
    int bytes = 0;
    ATTN_CUDA_CHECK(cudaDeviceGetAttribute(&bytes, cudaDevAttrL2CacheSize, kDevice));
    cache_bytes_ = static_cast<size_t>(bytes);
  }

  std::byte* allocate(size_t bytes) override { return pool_.allocate(bytes); }
  void release(std::byte* memory) noexcept override { pool_.release(memory); }

  void to_device(void* device, const void* host, size_t bytes) override {
    copy(device, host, bytes);
    synchronize();
  }
  void to_host(void* host, const void* device, size_t bytes) override {
    copy(host, device, bytes);
    synchronize();
  }
  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes) ATTN_CUDA_CHECK(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, stream_));
  }
  void fill(void* device, uint8_t byte, size_t bytes) override {
    if (bytes) ATTN_CUDA_CHECK(cudaMemsetAsync(device, byte, bytes, stream_));
  }
  void synchronize() override { ATTN_CUDA_CHECK(cudaStreamSynchronize(stream_)); }
  void* stream() override { return stream_; }

  double time_s(int64_t calls, const std::function<void()>& work,
                const std::function<void()>& meanwhile) override {
    enqueue(calls, work);
    meanwhile();
    ATTN_CUDA_CHECK(cudaEventSynchronize(stop_));
    float elapsed_ms = 0;
    ATTN_CUDA_CHECK(cudaEventElapsedTime(&elapsed_ms, start_, stop_));
    return static_cast<double>(elapsed_ms) * 1e-3;
  }
  std::unique_ptr<DeviceGraph> capture(const std::function<void()>& work) override {
    return capture_graph(stream_, work);
  }
  std::optional<double> clock_step_s() const override { return kEventStep_s; }

  size_t cache_bytes() const override { return cache_bytes_; }
  std::optional<DeviceMemory> memory() override {
    synchronize();
    return pool_.state();
  }
  void reset_peak() override {
    synchronize();
    pool_.reset_peak();
  }
  bool lost() noexcept override {
    cudaGetLastError();  // an error that one call takes away was no loss
    return cudaStreamSynchronize(stream_) != cudaSuccess;
  }

 private:
  static cudaStream_t make_stream() {
    cudaStream_t stream = nullptr;
    ATTN_CUDA_CHECK(cudaSetDevice(kDevice));
    ATTN_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
  }

  /// Between the two events; the device starts when the host is ahead.
  void enqueue(int64_t calls, const std::function<void()>& work) {
    struct Opener {
      CudaGate& gate;
      ~Opener() { gate.open(); }
    } opener{gate_};
    gate_.close(stream_);
    ATTN_CUDA_CHECK(cudaEventRecord(start_, stream_));
    for (int64_t call = 0; call < calls; ++call) {
      work();
      if (call + 1 == kHeldCalls) gate_.open();
    }
    ATTN_CUDA_CHECK(cudaEventRecord(stop_, stream_));
  }

  cudaStream_t stream_;
  CudaPool pool_;
  CudaGate gate_;
  cudaEvent_t start_ = nullptr, stop_ = nullptr;
  size_t cache_bytes_ = 0;
};

/// Not destroyed at exit: the driver may be gone by then.
CudaApi* current_api = nullptr;

}  // namespace

namespace detail {

std::string cuda_missing() {
  static const std::string reason = find_reason();
  return reason;
}

DeviceApi& cuda_api() {
  if (!current_api) current_api = new CudaApi;
  return *current_api;
}

DeviceFacts cuda_facts() {
  cudaDeviceProp device;
  ATTN_CUDA_CHECK(cudaGetDeviceProperties(&device, kDevice));
  int driver = 0;
  ATTN_CUDA_CHECK(cudaDriverGetVersion(&driver));
  char bus_id[32] = "";
  ATTN_CUDA_CHECK(cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, kDevice));
  DeviceFacts facts;
  facts.bus_id = bus_id;
  facts.memory_bytes = device.totalGlobalMem;
  facts.cache_bytes = static_cast<size_t>(device.l2CacheSize);
  facts.multiprocessors = device.multiProcessorCount;
  facts.description = std::string(device.name) + ", sm_" + std::to_string(device.major) +
                      std::to_string(device.minor) + ", " + std::to_string(device.multiProcessorCount) +
                      " SMs, " + std::to_string(device.totalGlobalMem >> 20) + " MiB, CUDA " +
                      version_text(CUDART_VERSION) + ", driver for CUDA " + version_text(driver);
  return facts;
}

void cuda_release() {
  if (!current_api) return;
  delete current_api;
  current_api = nullptr;
  cudaDeviceReset();  // an error here is one that the device had before
}

}  // namespace detail
}  // namespace attn
