// Stand-in for gpu_products_cublas.cpp in a build without cuBLAS.

#include "harness/measure/gpu_products.h"

namespace attn {

struct GpuProducts::Library {};

GpuProducts::GpuProducts(DeviceApi&) {}
GpuProducts::~GpuProducts() = default;
bool GpuProducts::multiply(Arithmetic, int64_t, const void*, const void*, void*) { return false; }

}  // namespace attn
