#pragma once
// PTX instructions of sm_80 that CUDA C++ has no function for, one wrapper each. What a single thread does
// has its host model beside it; the models of what a warp does together stand in tests/host_warp.h.

#include "variants/common/device.cuh"

namespace attn {

/// The registers that one ldmatrix.x4 gives a lane: one of each of four 8x8 matrices of 16-bit numbers, or
/// 8x4 matrices of float32.
struct Matrices {
  uint32_t of[4];
};

/// The value itself, of which the compiler knows no more: what depends on it stays inside its loop. Else the
/// addresses of every step of an unrolled loop wait in registers, and the sums spill.
ATTN_DEVICE int recomputed(int value) {
#if defined(__CUDA_ARCH__)
  asm volatile("" : "+r"(value));
#endif
  return value;
}

/// 2^x, relative error 2^-22.5; results below 2^-126 are 0.
ATTN_DEVICE float exp2_approximate(float x) {
#if defined(__CUDA_ARCH__)
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
  return result;
#else
  return x < -126 ? 0.0f : std::exp2(x);
#endif
}

/// tanh x, relative error 5e-7, without a branch.
ATTN_DEVICE float tanh_approximate(float x) {
#if defined(__CUDA_ARCH__)
  const float square = x * x;  // below 0.35, where 1 - 2 / (e^2x + 1) cancels, a polynomial
  float series = fmaf(square, -0.00886323f, 0.02186949f);
  series = fmaf(square, series, -0.05396825f);
  series = fmaf(square, series, 0.13333333f);
  series = fmaf(square, series, -0.33333333f);
  const float power = exp2_approximate(2.88539008177792681472f * fabsf(x));
  const float large = copysignf(1 - __fdividef(2, power + 1), x);
  return fabsf(x) < 0.35f ? fmaf(x * square, series, x) : large;
#else
  return std::tanh(x);
#endif
}

/// Nearest number with tf32's 10 bits of mantissa, ties away from zero; NaN stays NaN.
ATTN_DEVICE float tf32_rounded(float value) {
#if defined(__CUDA_ARCH__)
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(value));
#else
  uint32_t bits;
  memcpy(&bits, &value, sizeof(bits));
  if (value - value == 0) bits = (bits + 0x1000u) & ~0x1fffu;
#endif
  float rounded;
  memcpy(&rounded, &bits, sizeof(rounded));
  return rounded;
}

/// Four sums in global memory (16 bytes, aligned) to which other blocks add too, in any order.
ATTN_DEVICE void add_to_memory(float* to, const float (&four)[4]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("red.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)),
               "f"(four[0]), "f"(four[1]), "f"(four[2]), "f"(four[3])
               : "memory");
#elif defined(__CUDA_ARCH__)
  ATTN_UNROLL
  for (int k = 0; k < 4; ++k) atomicAdd(to + k, four[k]);
#else
  for (int k = 0; k < 4; ++k) to[k] += four[k];
#endif
}

#if defined(__CUDACC__)

/// Two numbers rounded to nearest even, `low` in the lower half.
__device__ __forceinline__ uint32_t pack_bf16(float low, float high) {
  uint32_t result;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}
__device__ __forceinline__ uint32_t pack_f16(float low, float high) {
  uint32_t result;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(result) : "f"(high), "f"(low));
  return result;
}

__device__ __forceinline__ uint16_t f16_of_float(float value) {
  uint16_t bits;
  asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
  return bits;
}
__device__ __forceinline__ float float_of_f16(uint16_t bits) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(bits));
  return value;
}

__device__ __forceinline__ uint32_t shared_address(const void* shared) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(shared));
}

/// 16 bytes from global to shared memory behind the thread's back; zeros where `bytes` is 0.
__device__ __forceinline__ void cp_async_16(void* shared, const void* global, int bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(bytes)
               : "memory");
}

/// Waits for the thread's own copies. Told to touch memory, which the toolkit's function is not: the thread
/// may read what it copied without a barrier in between.
__device__ __forceinline__ void cp_async_wait_all() { asm volatile("cp.async.wait_all;" ::: "memory"); }

/// The thread's copies since the last commit become a group.
__device__ __forceinline__ void cp_async_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
/// Waits for all of the thread's groups but the kYoungest last ones.
template <int kYoungest>
__device__ __forceinline__ void cp_async_wait_group() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kYoungest) : "memory");
}

template <bool kTransposed>
__device__ __forceinline__ Matrices ldmatrix_x4(uint32_t shared) {
  Matrices m;
  if constexpr (kTransposed) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.of[0]), "=r"(m.of[1]), "=r"(m.of[2]), "=r"(m.of[3])
                 : "r"(shared));
  } else {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(m.of[0]), "=r"(m.of[1]), "=r"(m.of[2]), "=r"(m.of[3])
                 : "r"(shared));
  }
  return m;
}

/// c += a b, [16, 8] += [16, 16] [16, 8], float32 sums.
__device__ __forceinline__ void mma_bf16(float (&c)[4], const Matrices& a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.of[0]), "r"(a.of[1]), "r"(a.of[2]), "r"(a.of[3]), "r"(b0), "r"(b1));
}
__device__ __forceinline__ void mma_f16(float (&c)[4], const Matrices& a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.of[0]), "r"(a.of[1]), "r"(a.of[2]), "r"(a.of[3]), "r"(b0), "r"(b1));
}

/// c += a b, [16, 8] += [16, 8] [8, 8] on tf32 numbers (of float32 the upper 19 bits), float32 sums.
__device__ __forceinline__ void mma_tf32(float (&c)[4], const Matrices& a, uint32_t b0, uint32_t b1) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a.of[0]), "r"(a.of[1]), "r"(a.of[2]), "r"(a.of[3]), "r"(b0), "r"(b1));
}

#endif  // __CUDACC__

}  // namespace attn
