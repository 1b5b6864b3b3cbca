// The inner loops of the GPU's roofs. Numbers are random where their values could change the power drawn, and
// with it the clock; sums go to a place that nobody reads, so that no loop is left out.

#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>

#include "harness/measure/gpu_products.h"
#include "harness/run/cuda_check.h"

namespace attn {
namespace {

constexpr int kThreads = 256, kBlocksPerSm = 8;
constexpr int kChains = 8;                                // independent, so that latencies overlap
constexpr int kMultiplyAdds = 2048, kExponentials = 512;  // of each chain
constexpr int kLoads = 8;                                 // of 16 bytes, in flight
constexpr size_t kChunkBytes = size_t{kThreads} * kLoads * sizeof(uint4);
constexpr size_t kMostBytes = size_t{1} << 30;
constexpr int64_t kLargeSize = 8192, kSmallSize = 4096;  // of the matrices

/// Uniform in [-1, 1), of a counter (the finaliser of MurmurHash3).
__device__ float random_number(uint32_t counter) {
  counter ^= counter >> 16;
  counter *= 0x85ebca6bu;
  counter ^= counter >> 13;
  counter *= 0xc2b2ae35u;
  counter ^= counter >> 16;
  return static_cast<float>(static_cast<int32_t>(counter)) * 0x1p-31f;
}

__device__ void assign(float* to, float value) { *to = value; }
__device__ void assign(__nv_bfloat16* to, float value) { *to = __float2bfloat16(value); }
__device__ void assign(__half* to, float value) { *to = __float2half(value); }

template <class T>
__global__ void fill_random(T* data, int64_t count) {
  const int64_t step = int64_t{gridDim.x} * blockDim.x;
  for (int64_t k = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; k < count; k += step) {
    assign(&data[k], random_number(static_cast<uint32_t>(k)));
  }
}

__global__ void run_multiply_adds(float* sink) {
  const float scale = random_number(threadIdx.x), shift = random_number(blockIdx.x);
  float sums[kChains];
#pragma unroll
  for (int k = 0; k < kChains; ++k) sums[k] = static_cast<float>(k);
#pragma unroll 16
  for (int repeat = 0; repeat < kMultiplyAdds; ++repeat) {
#pragma unroll
    for (int k = 0; k < kChains; ++k) sums[k] = fmaf(sums[k], scale, shift);
  }
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kChains; ++k) sum += sums[k];
  if (sum == 12345.678f) *sink = sum;
}

__device__ float exponential_instruction(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

/// x <- 2^-x, which stays between 0 and 2 from there.
template <bool instruction>
__global__ void run_exponentials(float* sink) {
  float x[kChains];
#pragma unroll
  for (int k = 0; k < kChains; ++k) x[k] = random_number(threadIdx.x * kChains + k);
#pragma unroll 16
  for (int repeat = 0; repeat < kExponentials; ++repeat) {
#pragma unroll
    for (int k = 0; k < kChains; ++k) x[k] = instruction ? exponential_instruction(-x[k]) : exp2f(-x[k]);
  }
  float sum = 0;
#pragma unroll
  for (int k = 0; k < kChains; ++k) sum += x[k];
  if (sum == 12345.678f) *sink = sum;
}

/// A block reads one chunk.
__global__ void run_reads(const uint4* data, uint32_t* sink) {
  const uint4* const chunk = data + size_t{blockIdx.x} * (kChunkBytes / sizeof(uint4)) + threadIdx.x;
  uint4 found[kLoads];
#pragma unroll
  for (int k = 0; k < kLoads; ++k) found[k] = __ldcs(chunk + k * kThreads);
  uint32_t sum = 0;
#pragma unroll
  for (int k = 0; k < kLoads; ++k) sum ^= found[k].x ^ found[k].y ^ found[k].z ^ found[k].w;
  if (sum == 0x12345678u) *sink = sum;
}

__global__ void do_nothing() {}

class CudaRoofKernels final : public GpuRoofKernels {
 public:
  explicit CudaRoofKernels(DeviceApi& api)
      : api_(api),
        stream_(static_cast<cudaStream_t>(api.stream())),
        sink_(api, sizeof(uint32_t)),
        products_(api) {
    const DeviceFacts facts = gpu_facts();
    blocks_ = facts.multiprocessors * kBlocksPerSm;
    const std::optional<DeviceMemory> memory = api.memory();
    const size_t free = memory ? memory->free : facts.memory_bytes / 2;
    size_ = free >= (size_t{4} << 30) ? kLargeSize : kSmallSize;
    const size_t bytes = std::min(kMostBytes, free / 8) / (2 * kChunkBytes) * (2 * kChunkBytes);
    memory_ = DeviceBuffer(api, std::max(bytes, 2 * kChunkBytes));
    fill<float>(memory_, memory_.bytes() / sizeof(float));
    matrices_f32_ = matrices<float>();
    matrices_bf16_ = matrices<__nv_bfloat16>();
    matrices_f16_ = matrices<__half>();
    api.synchronize();
  }

  double multiply_adds() override {
    run_multiply_adds<<<blocks_, kThreads, 0, stream_>>>(sink<float>());
    return launched(2.0 * kMultiplyAdds * chains());
  }
  double product(Arithmetic arithmetic) override {
    const bool is_f32 = arithmetic == Arithmetic::f32 || arithmetic == Arithmetic::tf32;
    const DeviceBuffer& matrices = is_f32                           ? matrices_f32_
                                   : arithmetic == Arithmetic::bf16 ? matrices_bf16_
                                                                    : matrices_f16_;
    const size_t each = matrices.bytes() / 3;
    std::byte* const a = matrices.data();
    if (!products_.multiply(arithmetic, size_, a, a + each, a + 2 * each)) return 0;
    const auto size = static_cast<double>(size_);
    return 2 * size * size * size;
  }
  double read() override {
    const size_t chunks = memory_.bytes() / kChunkBytes;
    run_reads<<<static_cast<unsigned>(chunks), kThreads, 0, stream_>>>(
        reinterpret_cast<const uint4*>(memory_.data()), sink<uint32_t>());
    return launched(static_cast<double>(chunks * kChunkBytes));
  }
  double copy() override {
    const size_t half = memory_.bytes() / 2;
    api_.copy(memory_.data() + half, memory_.data(), half);
    return 2.0 * static_cast<double>(half);
  }
  double ex2_approx() override {
    run_exponentials<true><<<blocks_, kThreads, 0, stream_>>>(sink<float>());
    return launched(double{kExponentials} * chains());
  }
  double exp2f() override {
    run_exponentials<false><<<blocks_, kThreads, 0, stream_>>>(sink<float>());
    return launched(double{kExponentials} * chains());
  }
  double launch() override {
    do_nothing<<<1, 1, 0, stream_>>>();
    return launched(1);
  }

 private:
  static double launched(double amount) {
    ATTN_CUDA_CHECK(cudaGetLastError());
    return amount;
  }
  double chains() const { return static_cast<double>(blocks_) * kThreads * kChains; }
  template <class T>
  T* sink() const {
    return reinterpret_cast<T*>(sink_.data());
  }
  template <class T>
  void fill(const DeviceBuffer& buffer, size_t count) const {
    fill_random<<<blocks_, kThreads, 0, stream_>>>(reinterpret_cast<T*>(buffer.data()),
                                                   static_cast<int64_t>(count));
    ATTN_CUDA_CHECK(cudaGetLastError());
  }
  /// Two factors and their product.
  template <class T>
  DeviceBuffer matrices() const {
    const size_t count = 3 * static_cast<size_t>(size_ * size_);
    DeviceBuffer buffer(api_, count * sizeof(T));
    fill<T>(buffer, count);
    return buffer;
  }

  DeviceApi& api_;
  cudaStream_t stream_;
  int blocks_ = 0;
  int64_t size_ = 0;
  DeviceBuffer sink_, memory_, matrices_f32_, matrices_bf16_, matrices_f16_;
  GpuProducts products_;
};

}  // namespace

namespace detail {

std::unique_ptr<GpuRoofKernels> make_gpu_roof_kernels(DeviceApi& api) {
  return std::make_unique<CudaRoofKernels>(api);
}

}  // namespace detail
}  // namespace attn
