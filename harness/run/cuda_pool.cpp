#include "harness/run/cuda_pool.h"

#include <algorithm>

#include "harness/run/cuda_check.h"

namespace attn {

CudaPool::CudaPool(int device, cudaStream_t stream) : device_(device), stream_(stream) {
  int supported = 0;
  ATTN_CUDA_CHECK(cudaDeviceGetAttribute(&supported, cudaDevAttrMemoryPoolsSupported, device));
  if (!supported) return;
  cudaMemPoolProps properties{};
  properties.allocType = cudaMemAllocationTypePinned;
  properties.handleTypes = cudaMemHandleTypeNone;
  properties.location.type = cudaMemLocationTypeDevice;
  properties.location.id = device;
  ATTN_CUDA_CHECK(cudaMemPoolCreate(&pool_, &properties));
  // The release threshold stays 0: memory that is not in use goes back to the device whenever the host waits
  // for it, and so is there for libraries that allocate for themselves.
  ATTN_CUDA_CHECK(cudaDeviceSetMemPool(device, pool_));
}

CudaPool::~CudaPool() {
  if (!pool_) return;
  cudaMemPool_t former = nullptr;
  cudaStreamSynchronize(stream_);
  if (cudaDeviceGetDefaultMemPool(&former, device_) == cudaSuccess) cudaDeviceSetMemPool(device_, former);
  cudaMemPoolDestroy(pool_);
}

std::byte* CudaPool::allocate(size_t bytes) {
  void* memory = nullptr;
  const auto attempt = [&] {
    const size_t wanted = std::max(bytes, size_t{1});
    return pool_ ? cudaMallocFromPoolAsync(&memory, wanted, pool_, stream_) : cudaMalloc(&memory, wanted);
  };
  cudaError_t status = attempt();
  if (status == cudaErrorMemoryAllocation && pool_) {
    // What was released may still be reserved in pieces of other sizes.
    cudaGetLastError();
    ATTN_CUDA_CHECK(cudaStreamSynchronize(stream_));
    ATTN_CUDA_CHECK(cudaMemPoolTrimTo(pool_, 0));
    status = attempt();
  }
  if (status == cudaErrorMemoryAllocation) {
    cudaGetLastError();
    throw OutOfMemory(bytes);
  }
  ATTN_CUDA_CHECK(status);
  return static_cast<std::byte*>(memory);
}

void CudaPool::release(std::byte* memory) noexcept {
  if (pool_) {
    cudaFreeAsync(memory, stream_);
  } else {
    cudaFree(memory);
  }
}

size_t CudaPool::attribute(cudaMemPoolAttr which) const {
  uint64_t value = 0;  // cuuint64_t, the type of every attribute that is a size
  ATTN_CUDA_CHECK(cudaMemPoolGetAttribute(pool_, which, &value));
  return static_cast<size_t>(value);
}

std::optional<DeviceMemory> CudaPool::state() const {
  if (!pool_) return std::nullopt;
  size_t free = 0, total = 0;
  ATTN_CUDA_CHECK(cudaMemGetInfo(&free, &total));
  const size_t reserved = attribute(cudaMemPoolAttrReservedMemCurrent);
  const size_t used = attribute(cudaMemPoolAttrUsedMemCurrent);
  return DeviceMemory{.used = used,
                      .used_peak = std::max(used, attribute(cudaMemPoolAttrUsedMemHigh)),
                      .outside = total - std::min(total, free + reserved),
                      .free = free + (reserved - std::min(reserved, used))};
}

void CudaPool::reset_peak() {
  if (!pool_) return;
  ATTN_CUDA_CHECK(cudaMemPoolTrimTo(pool_, 0));
  uint64_t zero = 0;  // the only value that may be set; the mark becomes what is in use
  ATTN_CUDA_CHECK(cudaMemPoolSetAttribute(pool_, cudaMemPoolAttrUsedMemHigh, &zero));
}

}  // namespace attn
