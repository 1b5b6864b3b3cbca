// Stand-in for gpu_roof_kernels.cu in a build without nvcc.

#include "harness/measure/gpu_roofs.h"

namespace attn::detail {

std::unique_ptr<GpuRoofKernels> make_gpu_roof_kernels(DeviceApi&) {
  throw std::runtime_error(cuda_missing());
}

}  // namespace attn::detail
