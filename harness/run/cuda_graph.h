#pragma once
// A CUDA graph from what a function enqueues on a stream.

#include <cuda_runtime_api.h>

#include <functional>
#include <memory>

#include "harness/run/launch.h"

namespace attn {

/// Captures, instantiates and uploads. The mode of the capture forbids the whole process what a replay would
/// not repeat, such as waiting for the device or cudaMalloc. Throws CannotCapture where `work` does so,
/// leaves another stream unjoined, allocates from a pool, copies from pageable memory, or enqueues nothing;
/// the stream can be used as before.
std::unique_ptr<DeviceGraph> capture_graph(cudaStream_t stream, const std::function<void()>& work);

}  // namespace attn
