#include "harness/run/cuda_gate.h"

#include <atomic>

#include "harness/run/cuda_check.h"

namespace attn {
namespace {

__device__ uint64_t now_ns() {
  uint64_t time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

__global__ void wait_for_ticket(const volatile uint32_t* opened, uint32_t ticket, uint64_t longest_ns) {
  const uint64_t start = now_ns();
  while (*opened != ticket && now_ns() - start < longest_ns) __nanosleep(100);
}

}  // namespace

CudaGate::CudaGate() {
  void* memory = nullptr;
  ATTN_CUDA_CHECK(cudaHostAlloc(&memory, sizeof(uint32_t), cudaHostAllocMapped));
  opened_ = static_cast<uint32_t*>(memory);
  *opened_ = 0;
}

CudaGate::~CudaGate() { cudaFreeHost(opened_); }

void CudaGate::close(cudaStream_t stream) {
  void* seen_by_device = nullptr;
  ATTN_CUDA_CHECK(cudaHostGetDevicePointer(&seen_by_device, opened_, 0));
  ++ticket_;
  wait_for_ticket<<<1, 1, 0, stream>>>(static_cast<uint32_t*>(seen_by_device), ticket_, kLongest_ns);
  ATTN_CUDA_CHECK(cudaGetLastError());
}

void CudaGate::open() noexcept { std::atomic_ref(*opened_).store(ticket_, std::memory_order_release); }

}  // namespace attn
