#pragma once
// Products of square matrices by the GPU's BLAS, for the roofs.

#include <cstdint>
#include <memory>

#include "harness/measure/gpu_roofs.h"

namespace attn {

class GpuProducts {
 public:
  explicit GpuProducts(DeviceApi& api);
  ~GpuProducts();

  /// Enqueues c = a b of size x size elements: float32 for f32 and tf32, else of that type, sums in float32.
  /// False where this build has no library for it.
  bool multiply(Arithmetic arithmetic, int64_t size, const void* a, const void* b, void* c);

 private:
  struct Library;
  std::unique_ptr<Library> library_;
};

}  // namespace attn
