#pragma once
// Holds a stream back while the host enqueues what will be timed, so that short kernels follow each other
// without waiting for their launches. After nvbench's blocking kernel (NVIDIA/nvbench :
// nvbench/detail/measure_cold.cuh); this one gives up by itself, so a call that waits for the stream, or a
// launch queue that is full, costs time but never deadlocks.

#include <cuda_runtime_api.h>

#include <cstdint>

namespace attn {

class CudaGate {
 public:
  CudaGate();
  CudaGate(const CudaGate&) = delete;
  ~CudaGate();

  /// What is enqueued from now on waits until open(), or for kLongest_ns.
  void close(cudaStream_t stream);
  void open() noexcept;

  static constexpr uint64_t kLongest_ns = 10'000'000;

 private:
  uint32_t* opened_ =
      nullptr;  ///< pinned memory of the host that the device reads: the last ticket let through
  uint32_t ticket_ = 0;
};

}  // namespace attn
