#pragma once
// Tensor maps: what TMA has to know of a tensor and of the boxes it copies. The driver's function is looked
// up at run time, so that programs start without a driver.

#include <cuda.h>
#include <cudaTypedefs.h>

#include "harness/problem/tensor.h"
#include "harness/run/cuda_check.h"
#include "variants/common/gpu_tensor.cuh"

namespace attn {

/// [batch, seq, heads, width]
struct TensorShape {
  int64_t batch, seq, heads, width;
};

/// Whether TMA can copy rows of this tensor: 16-bit numbers, the rows' addresses multiples of 16 bytes.
template <class Void>
bool tma_accepts(const BasicTensor<Void>& tensor, const TensorShape& shape) {
  constexpr int64_t kMostBytes = int64_t{1} << 40;
  if (reinterpret_cast<uintptr_t>(tensor.data) % 16 != 0) return false;
  const auto accepted = [](int64_t stride, int64_t count) {
    return count == 1 || (stride > 0 && stride % 8 == 0 && 2 * stride < kMostBytes);
  };
  return accepted(tensor.seq_stride, shape.seq) && accepted(tensor.head_stride, shape.heads) &&
         accepted(tensor.batch_stride, shape.batch);
}

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

/// Boxes of `rows` rows of one head and 64 channels, 128-byte swizzle.
/// Coordinates: channel, head, row, batch entry. T: Bf16 or F16. Throws where tma_accepts() is false.
template <class T, class Void>
CUtensorMap tensor_map(const BasicTensor<Void>& tensor, const TensorShape& shape, int rows) {
  static_assert(sizeof(T) == 2, "16-bit numbers");
  const auto bytes = [](int64_t stride, int64_t count) {  // of one row, the stride means nothing
    return count == 1 ? cuuint64_t{16} : static_cast<cuuint64_t>(2 * stride);
  };
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(shape.width), static_cast<cuuint64_t>(shape.heads),
                              static_cast<cuuint64_t>(shape.seq), static_cast<cuuint64_t>(shape.batch)};
  const cuuint64_t strides[] = {bytes(tensor.head_stride, shape.heads), bytes(tensor.seq_stride, shape.seq),
                                bytes(tensor.batch_stride, shape.batch)};
  const cuuint32_t box[] = {64, 1, static_cast<cuuint32_t>(rows), 1}, steps[] = {1, 1, 1, 1};
  CUtensorMap map;
  const CUresult result = tensor_map_encoder()(
      &map, std::is_same_v<T, Bf16> ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 4,
      const_cast<void*>(static_cast<const void*>(tensor.data)), sizes, strides, box, steps,
      CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
      CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS)
    throw std::runtime_error("cuTensorMapEncodeTiled: error " + std::to_string(static_cast<int>(result)));
  return map;
}

}  // namespace attn
