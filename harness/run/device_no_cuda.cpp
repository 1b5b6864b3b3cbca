// Stand-in for device_cuda.cu in a build without nvcc.

#include "harness/run/device.h"

namespace attn::detail {

std::string cuda_missing() { return "built without CUDA"; }
DeviceApi& cuda_api() { throw std::runtime_error(cuda_missing()); }
DeviceFacts cuda_facts() { throw std::runtime_error(cuda_missing()); }
void cuda_release() {}

}  // namespace attn::detail
