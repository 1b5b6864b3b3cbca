#include <cublas_v2.h>

#include "harness/measure/gpu_products.h"

namespace attn {
namespace {

/// What cuBLAS recommends for Hopper; smaller cards use less of it.
constexpr size_t kWorkspaceBytes = size_t{32} << 20;

void check(cublasStatus_t status, const char* what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  throw std::runtime_error(std::string("cuBLAS: ") + what + ": " + cublasGetStatusString(status));
}

struct Types {
  cudaDataType_t storage;
  cublasComputeType_t compute;
};

Types types_of(Arithmetic arithmetic) {
  switch (arithmetic) {
    case Arithmetic::bf16:
      return {CUDA_R_16BF, CUBLAS_COMPUTE_32F};
    case Arithmetic::f16:
      return {CUDA_R_16F, CUBLAS_COMPUTE_32F};
    case Arithmetic::tf32:
      return {CUDA_R_32F, CUBLAS_COMPUTE_32F_FAST_TF32};
    default:
      return {CUDA_R_32F, CUBLAS_COMPUTE_32F};
  }
}

}  // namespace

struct GpuProducts::Library {
  explicit Library(DeviceApi& api) : workspace(api, kWorkspaceBytes) {
    check(cublasCreate(&handle), "cublasCreate");
    // Setting the stream takes the workspace away: in this order.
    check(cublasSetStream(handle, static_cast<cudaStream_t>(api.stream())), "cublasSetStream");
    check(cublasSetWorkspace(handle, workspace.data(), kWorkspaceBytes), "cublasSetWorkspace");
  }
  ~Library() { cublasDestroy(handle); }

  DeviceBuffer workspace;
  cublasHandle_t handle = nullptr;
};

GpuProducts::GpuProducts(DeviceApi& api) : library_(std::make_unique<Library>(api)) {}
GpuProducts::~GpuProducts() = default;

bool GpuProducts::multiply(Arithmetic arithmetic, int64_t size, const void* a, const void* b, void* c) {
  const Types types = types_of(arithmetic);
  const int n = static_cast<int>(size);
  const float one = 1, zero = 0;
  check(cublasGemmEx(library_->handle, CUBLAS_OP_N, CUBLAS_OP_N, n, n, n, &one, a, types.storage, n, b,
                     types.storage, n, &zero, c, types.storage, n, types.compute, CUBLAS_GEMM_DEFAULT),
        "cublasGemmEx");
  return true;
}

}  // namespace attn
