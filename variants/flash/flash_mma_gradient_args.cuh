#pragma once
// What the thread blocks of flash/cuda/mma's backward are given, and the sizes of their tiles.

#include "variants/common/tile16.cuh"
#include "variants/flash/flash_backward_rows.cuh"
#include "variants/flash/flash_bucket_sums.cuh"
#include "variants/flash/flash_tiles.cuh"

namespace attn {

/// All: of queries too, added up in memory.
enum class GradientOf { queries, keys, values, keys_and_values, all };

template <class T>
struct Operand16 {
  GpuTensor<T> tensor;
  bool aligned;  ///< rows may be read and written 16 bytes at a time
  int width;

  Operand16() = default;
  Operand16(const GpuTensor<T>& operand, int64_t row)
      : tensor(operand), aligned(operand.aligned(row)), width(static_cast<int>(row)) {}
  ATTN_DEVICE TileRows<T> rows(int64_t b, int64_t first, int64_t head, int64_t count) const {
    return {tensor.row(b, first, head), tensor.seq_stride, count, width, aligned};
  }
};

template <class T>  // Bf16 or F16
struct FlashMmaGradientArgs : FlashShape {
  Operand16<const T> q, k, v, d_o;
  Operand16<T> d_q, d_k, d_v;
  QueryRows queries;
  float scale;
  float softcap;  ///< 0: none
  BiasRows bias;
  BucketSums table;
  float* query_sums;  ///< of all: FlashMmaQuerySums
};

/// The largest tiles that ptxas keeps in registers.
constexpr int flash_mma_gradient_rows(int width, bool extended, GradientOf of) {
  const bool queries = of == GradientOf::queries;
  if (of == GradientOf::all) return 128;
  return (width == 64 && (queries || !extended)) || (width == 128 && queries && !extended) ? 128 : 64;
}
constexpr int flash_mma_gradient_columns(int width, GradientOf of) {
  return width == 256 ? 16 : width == 128 && of == GradientOf::all ? 64 : 32;
}
constexpr int flash_mma_gradient_warps(int width, GradientOf of) {
  return width == 128 && of == GradientOf::all ? 8 : 4;
}

}  // namespace attn
