#pragma once
// Marks of functions that run on a GPU, and on the host in tests, and numbers that both know.

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <numbers>

#if defined(__CUDACC__)
#include <cuda_pipeline.h>
#include <cuda_runtime.h>
#define ATTN_DEVICE __device__ __forceinline__
#define ATTN_UNROLL _Pragma("unroll")
#define ATTN_UNROLL_4 _Pragma("unroll 4")
#define ATTN_ROLL _Pragma("unroll 1")
#else
#define ATTN_DEVICE inline
#define ATTN_UNROLL
#define ATTN_UNROLL_4
#define ATTN_ROLL
#endif

namespace attn {

inline constexpr float kLog2e = std::numbers::log2e_v<float>;
inline constexpr float kLn2 = std::numbers::ln2_v<float>;

}  // namespace attn
