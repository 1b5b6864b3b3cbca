#pragma once
// One source for a thread block: as a CUDA kernel, and as a model on the host (tests/host_block.h).
//
// A block's algorithm is a plain struct, the Body:
//   static constexpr int kThreads, kMinBlocks;     // blocks per SM that registers must allow
//   struct Thread;                                 // registers of one thread
//   static size_t shared_bytes();
//   template <class Block> ATTN_DEVICE void run(Block& block, int64_t index, float* shared) const;
// run() is the same for all threads; what a thread does stands in phases,
//   block.each([=, this](auto& block, int thread, Thread& state) { ... });
// separated by block.sync() wherever one thread reads what another wrote. Phases capture by value, because
// the host model runs them later: warp after warp, in either order, so that a missing barrier shows as a
// wrong result.

#include "variants/common/device.cuh"
#include "variants/common/ptx.cuh"
#if defined(__CUDACC__)
#include "harness/run/cuda_check.h"
#endif

namespace attn {

struct alignas(16) Float4 {
  float x, y, z, w;
};

/// Of a GPU, what decides how many thread blocks run at a time.
struct GpuShape {
  int64_t multiprocessors;
  int64_t shared_bytes;  ///< of a multiprocessor

  /// Blocks that take `bytes` of shared memory each; the system adds 1 KiB to every one.
  int64_t resident_blocks(size_t bytes, int64_t most) const {
    const int64_t fitting = shared_bytes / (static_cast<int64_t>(bytes) + 1024);
    return multiprocessors * (fitting < 1 ? 1 : fitting < most ? fitting : most);
  }
};
inline constexpr GpuShape kH100Shape = {132, 228 << 10};

struct Maximum {
  ATTN_DEVICE static float of(float a, float b) { return fmaxf(a, b); }
};
struct Sum {
  ATTN_DEVICE static float of(float a, float b) { return a + b; }
};

#if defined(__CUDACC__)

/// Combines a value over aligned groups of `lanes` neighbours; all get the result.
template <class Combine, int lanes>
__device__ __forceinline__ float combine_lanes(float value) {
  static_assert(lanes <= 32 && (lanes & (lanes - 1)) == 0, "a group must lie within a warp");
  ATTN_UNROLL
  for (int offset = lanes / 2; offset > 0; offset /= 2) {
    value = Combine::of(value, __shfl_xor_sync(0xffffffffu, value, offset));
  }
  return value;
}

template <class State>
class CudaWarp;  // variants/common/warp.cuh

template <class State>
class CudaBlock {
 public:
  using Thread = State;

  template <class Phase>
  __device__ __forceinline__ void each(const Phase& phase) {
    phase(*this, static_cast<int>(threadIdx.x), state_);
  }
  /// After a phase in which lanes took different ways: each_warp() needs them together.
  __device__ __forceinline__ void converge() { __syncwarp(); }
  /// phase(warp), for what the lanes of a warp do together (variants/common/warp.cuh).
  template <class Phase>
  __device__ __forceinline__ void each_warp(const Phase& phase) {
    CudaWarp<State> warp(state_);
    phase(warp);
  }
  __device__ __forceinline__ void sync() { __syncthreads(); }
  /// A sync() that says whether state.*flag is true of some thread.
  __device__ __forceinline__ bool sync_any(bool State::*flag) { return __syncthreads_or(state_.*flag) != 0; }

  /// Combines state.*field[0..count) over aligned groups of `lanes` neighbours; all get the result.
  template <class Combine, int lanes, int count>
  __device__ __forceinline__ void reduce(float (State::*field)[count]) {
    ATTN_UNROLL
    for (int k = 0; k < count; ++k) (state_.*field)[k] = combine_lanes<Combine, lanes>((state_.*field)[k]);
  }

  /// Global to shared memory behind the thread's back, until wait_copies(). Both addresses aligned to T.
  template <class T>
  __device__ __forceinline__ void copy(T* shared, const T* global) {
    __pipeline_memcpy_async(shared, global, sizeof(T));
  }
  /// 16 bytes alike, or zeros where there is nothing to read.
  __device__ __forceinline__ void copy_or_zero(Float4* shared, const void* global, bool there) {
    cp_async_16(shared, global, there ? 16 : 0);
  }
  /// Waits for the thread's own copies; others' need a sync() after it.
  __device__ __forceinline__ void wait_copies() { cp_async_wait_all(); }
  /// For pipelines: the thread's copies so far become a group, which may be empty.
  __device__ __forceinline__ void commit_copies() { cp_async_commit(); }
  /// Waits for the thread's groups, all but the kYoungest last ones.
  template <int kYoungest>
  __device__ __forceinline__ void wait_groups() {
    cp_async_wait_group<kYoungest>();
  }

 private:
  State state_;
};

template <class Body>
__global__ void __launch_bounds__(Body::kThreads, Body::kMinBlocks)
    block_kernel(const __grid_constant__ Body body) {
  extern __shared__ __align__(128) Float4 attn_shared[];  // tiles are flipped within 128 bytes
  CudaBlock<typename Body::Thread> block;
  body.run(block, static_cast<int64_t>(blockIdx.x), reinterpret_cast<float*>(attn_shared));
}

template <class Body>
__global__ void __launch_bounds__(256) index_kernel(int64_t count, const __grid_constant__ Body body) {
  const int64_t step = static_cast<int64_t>(gridDim.x) * blockDim.x;
  for (int64_t k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x; k < count; k += step) body(k);
}

/// Enqueues work on a stream.
class CudaQueue {
 public:
  explicit CudaQueue(void* stream) : stream_(static_cast<cudaStream_t>(stream)) {}
  cudaStream_t stream() const { return stream_; }
  /// Of the device in use; of an H100 where there is none.
  static GpuShape gpu() {
    static const GpuShape shape = read_gpu();
    return shape;
  }

  /// body(k) for k in [0, count).
  template <class Body>
  void for_each(int64_t count, const Body& body) const {
    if (count <= 0) return;
    const int64_t blocks = (count + 255) / 256;
    index_kernel<<<static_cast<unsigned>(blocks < kMostBlocks ? blocks : kMostBlocks), 256, 0, stream_>>>(
        count, body);
    ATTN_CUDA_CHECK(cudaGetLastError());
  }
  /// `count` thread blocks of the Body, at most 2^31 - 1.
  template <class Body>
  void blocks(int64_t count, const Body& body) const {
    if (count <= 0) return;
    const size_t shared_bytes = body.shared_bytes();
    ATTN_CUDA_CHECK(cudaFuncSetAttribute(block_kernel<Body>, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                         static_cast<int>(shared_bytes)));
    block_kernel<<<static_cast<unsigned>(count), Body::kThreads, shared_bytes, stream_>>>(body);
    ATTN_CUDA_CHECK(cudaGetLastError());
  }
  /// Host memory may be released after the call: for prepare(), as it waits.
  void upload(void* device, const void* host, size_t bytes) const {
    if (bytes) ATTN_CUDA_CHECK(cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, stream_));
    ATTN_CUDA_CHECK(cudaStreamSynchronize(stream_));
  }

 private:
  static GpuShape read_gpu() {
    int device = 0, multiprocessors = 0, bytes = 0;
    const bool found =
        cudaGetDevice(&device) == cudaSuccess &&
        cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device) == cudaSuccess &&
        cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerMultiprocessor, device) == cudaSuccess;
    if (found) return {multiprocessors, bytes};
    cudaGetLastError();
    return kH100Shape;
  }

  static constexpr int64_t kMostBlocks = 1 << 16;
  cudaStream_t stream_;
};

#endif  // __CUDACC__

}  // namespace attn
