#pragma once
// Tensor maps of the driver. Its function is looked up at run time, so that programs start without a driver.

#include <cuda.h>
#include <cudaTypedefs.h>

#include "harness/run/cuda_check.h"
#include "variants/common/gpu_tensor.cuh"
#include "variants/common/tensor_box.h"

namespace attn {

inline PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  static const auto encode = [] {
    void* function = nullptr;
    cudaDriverEntryPointQueryResult found;
    ATTN_CUDA_CHECK(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000,
                                                     cudaEnableDefault, &found));
    if (found != cudaDriverEntryPointSuccess || !function)
      throw std::runtime_error("the driver has no cuTensorMapEncodeTiled");
    return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
  }();
  return encode;
}

/// Boxes of `rows` rows of `heads` heads and 64 channels, 128-byte swizzle.
/// Coordinates: channel, head, row, batch entry. T: Bf16 or F16. Throws where tma_accepts() is false.
template <class T, class Void>
TensorMap tensor_map(const BasicTensor<Void>& tensor, const TensorShape& shape, int rows, int heads = 1) {
  static_assert(sizeof(T) == 2, "16-bit numbers");
  const TensorBox of = tensor_box(tensor, shape, rows, heads);
  const cuuint32_t steps[] = {1, 1, 1, 1};
  static_assert(sizeof(TensorMap) == sizeof(CUtensorMap));
  TensorMap map;
  const CUresult result = tensor_map_encoder()(
      reinterpret_cast<CUtensorMap*>(&map),
      std::is_same_v<T, Bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
      TensorBox::kAxes, const_cast<void*>(static_cast<const void*>(tensor.data)), of.sizes, of.strides,
      of.box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
      CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result)));
  return map;
}

}  // namespace attn
