#pragma once
// Device memory from a stream-ordered pool of our own, which knows its high-water mark to the allocation. It
// is also the device's current pool, so that what a library takes by cudaMallocAsync is counted with ours;
// what anyone takes by cudaMalloc is not in it, and shows only as growth of the device's memory outside.

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>

#include "harness/run/device.h"

namespace attn {

class CudaPool {
 public:
  /// Without pools (some virtual GPUs) memory comes from cudaMalloc and state() knows nothing.
  CudaPool(int device, cudaStream_t stream);
  CudaPool(const CudaPool&) = delete;
  ~CudaPool();

  /// Throws OutOfMemory.
  std::byte* allocate(size_t bytes);
  void release(std::byte* memory) noexcept;
  /// After the stream's work has ended.
  std::optional<DeviceMemory> state() const;
  /// Returns unused memory to the device and resets the high-water mark to what is in use.
  void reset_peak();

 private:
  size_t attribute(cudaMemPoolAttr which) const;

  int device_;
  cudaStream_t stream_;
  cudaMemPool_t pool_ = nullptr;  ///< null: the device has none
};

}  // namespace attn
