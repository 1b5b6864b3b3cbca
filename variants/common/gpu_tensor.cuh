#pragma once
// Operands as GPU kernels take them: typed pointers and strides, and the storage types bf16 and f16.

#include <cstdint>

#include "harness/problem/dtype.h"
#include "harness/problem/tensor.h"
#include "variants/common/block.cuh"

namespace attn {

/// Storage only; converted by to_float and Bf16::rounded.
struct Bf16 {
  static constexpr uint32_t kExponent = 0x7f80;  ///< all of it set: NaN or infinity
  uint16_t bits;

  /// Nearest, ties to even; NaN stays NaN.
  ATTN_DEVICE static Bf16 rounded(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof(bits));
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40u)};
    return {static_cast<uint16_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
};

/// Storage only, as Bf16.
struct F16 {
  static constexpr uint32_t kExponent = 0x7c00;
  uint16_t bits;

#if defined(__CUDACC__)
  __device__ __forceinline__ static F16 rounded(float value) { return {f16_of_float(value)}; }
#else
  static F16 rounded(float value) {
    F16 half;
    store(Dtype::f16, &half.bits, 0, value);
    return half;
  }
#endif
};

ATTN_DEVICE float to_float(float value) { return value; }
#if defined(__CUDACC__)
__device__ __forceinline__ float to_float(F16 value) { return float_of_f16(value.bits); }
#else
inline float to_float(F16 value) { return load(Dtype::f16, &value.bits, 0); }
#endif
ATTN_DEVICE float to_float(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  memcpy(&wide, &bits, sizeof(wide));
  return wide;
}
ATTN_DEVICE void set(float& to, float value) { to = value; }
ATTN_DEVICE void set(Bf16& to, float value) { to = Bf16::rounded(value); }
ATTN_DEVICE void set(F16& to, float value) { to = F16::rounded(value); }

template <class T>
struct GpuTensor {  // [batch, seq, head, width]
  T* data = nullptr;
  int64_t batch_stride = 0;
  int64_t seq_stride = 0;
  int64_t head_stride = 0;

  ATTN_DEVICE T* row(int64_t b, int64_t i, int64_t h) const {
    return data + b * batch_stride + i * seq_stride + h * head_stride;
  }
  /// Whether rows of `width` elements may be read 16 bytes at a time.
  bool aligned(int64_t width) const {
    constexpr int64_t kElements = 16 / sizeof(T);
    const int64_t strides = batch_stride | seq_stride | head_stride | width;
    return strides % kElements == 0 && reinterpret_cast<uintptr_t>(data) % 16 == 0;
  }
};

template <class T, class Void>
GpuTensor<T> gpu_tensor(const BasicTensor<Void>& tensor) {
  return {static_cast<T*>(tensor.data), tensor.batch_stride, tensor.seq_stride, tensor.head_stride};
}
template <class T>
GpuTensor<T> gpu_contiguous(T* data, int64_t seq, int64_t heads, int64_t width) {
  return {data, seq * heads * width, heads * width, width};
}

}  // namespace attn
