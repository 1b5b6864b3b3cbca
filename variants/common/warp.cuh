#pragma once
// What the 32 lanes of a warp do together, inside block.each_warp(phase). As a block (block.cuh), a warp has
// one source and two meanings: on a GPU every lane runs it, on the host (tests/host_warp.h) it runs once and
// each step covers all lanes in turn, so that lanes are always at the same step.
//
//   warp.each([&](int lane, Thread& state) { ... });             every lane for itself
//   auto x = warp.make([&](int lane, Thread& state) { ... });    a register in every lane
//   auto m = warp.template load_matrices<kTransposed>(address);  ldmatrix; address(lane)
//   warp.template multiply<T>(c, a, b, half);                    mma; c(state) is a float[4]

#include <type_traits>

#include "variants/common/gpu_tensor.cuh"
#include "variants/common/mma_layout.h"

namespace attn {

/// Two numbers rounded to T (Bf16 or F16) in a register, `low` in the lower half.
template <class T>
ATTN_DEVICE uint32_t pack(float low, float high) {
#if defined(__CUDACC__)
  return std::is_same_v<T, Bf16> ? pack_bf16(low, high) : pack_f16(low, high);
#else
  return static_cast<uint32_t>(T::rounded(high).bits) << 16 | T::rounded(low).bits;
#endif
}
template <class T>
ATTN_DEVICE T half_of(uint32_t pair, int half) {
  return {static_cast<uint16_t>(pair >> (16 * half))};
}

#if defined(__CUDACC__)

template <class State>
class CudaWarp {
 public:
  /// A register in every lane; here, the lane's own.
  template <class T>
  struct Lanes {
    T value;
    __device__ __forceinline__ const T& operator[](int) const { return value; }
  };

  __device__ __forceinline__ explicit CudaWarp(State& state)
      : state_(state), lane_(recomputed(static_cast<int>(threadIdx.x) % kWarpLanes)) {}

  __device__ __forceinline__ int index() const { return static_cast<int>(threadIdx.x) / kWarpLanes; }
  template <class Step>
  __device__ __forceinline__ void each(const Step& step) {
    step(lane_, state_);
  }
  template <class Step>
  __device__ __forceinline__ auto make(const Step& step) {
    using T = decltype(step(0, state_));
    return Lanes<T>{step(lane_, state_)};
  }
  /// What some lanes wrote to shared memory is there for the others.
  __device__ __forceinline__ void sync() { __syncwarp(); }
  __device__ __forceinline__ bool any(bool State::*flag) { return __any_sync(0xffffffffu, state_.*flag); }

  template <class Combine, int lanes, int count>
  __device__ __forceinline__ void reduce(float (State::*field)[count]) {
    ATTN_UNROLL
    for (int k = 0; k < count; ++k) (state_.*field)[k] = combine_lanes<Combine, lanes>((state_.*field)[k]);
  }

  template <bool kTransposed, class Address>
  __device__ __forceinline__ Lanes<Matrices> load_matrices(const Address& address) {
    return {ldmatrix_x4<kTransposed>(address(lane_))};
  }
  /// c += A B; B is half `half` of two that were loaded side by side.
  template <class T, class C>
  __device__ __forceinline__ void multiply(const C& c, const Lanes<Matrices>& a, const Lanes<Matrices>& b,
                                           int half) {
    const uint32_t b0 = b.value.of[2 * half], b1 = b.value.of[2 * half + 1];
    if constexpr (std::is_same_v<T, Bf16>) {
      mma_bf16(c(state_), a.value, b0, b1);
    } else {
      mma_f16(c(state_), a.value, b0, b1);
    }
  }

 private:
  State& state_;
  int lane_;
};

#endif  // __CUDACC__

}  // namespace attn
