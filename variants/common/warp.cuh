#pragma once
// What the 32 lanes of a warp do together, inside block.each_warp(phase). As a block (block.cuh), a warp has
// one source and two meanings: on a GPU every lane runs it, on the host (tests/host_warp.h) it runs once and
// each step covers all lanes in turn, so that lanes are always at the same step.
//
//   warp.each([&](int lane, Thread& state) { ... });             every lane for itself
//   auto x = warp.make([&](int lane, Thread& state) { ... });    a register in every lane
//   auto m = warp.template load_matrices<kTransposed>(tile, start, flip, further);
//                                                                ldmatrix at tile + (start(lane) ^ flip) +
//                                                                further
//   auto m = warp.load_words(address);                           4 bytes at address(lane, 0), .., (lane, 3)
//   auto a = warp.template operand<T>(m);                        as the tensor cores take it
//   warp.template multiply<T>(c, a, b, half);                    mma; c(state) is a float[4]
//
// Float32 is multiplied in three products of tf32 numbers: x = big + small + at most 2^-23 x, and small times
// small, at most 2^-22 of the product, is left out (Ootomo and Yokota 2022, without their correction of the
// sums' rounding).

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
struct alignas(8) Float2 {
  float x, y;
};
/// Two neighbours of a row, `low` first.
template <class T>
ATTN_DEVICE void store_pair(T* to, float low, float high) {
  if constexpr (std::is_same_v<T, float>) {
    *reinterpret_cast<Float2*>(to) = {low, high};
  } else {
    *reinterpret_cast<uint32_t*>(to) = pack<T>(low, high);
  }
}
template <class T>
ATTN_DEVICE T half_of(uint32_t pair, int half) {
  return {static_cast<uint16_t>(pair >> (16 * half))};
}

struct SplitMatrices {
  Matrices big, small;
};
/// What a lane holds of an operand of numbers T.
template <class T>
using MmaOperand = std::conditional_t<std::is_same_v<T, float>, SplitMatrices, Matrices>;

template <class T>
ATTN_DEVICE MmaOperand<T> operand_of(const Matrices& loaded) {
  if constexpr (std::is_same_v<T, float>) {
    SplitMatrices split;
    ATTN_UNROLL
    for (int r = 0; r < 4; ++r) {
      float whole;
      memcpy(&whole, &loaded.of[r], sizeof(whole));
      const float big = tf32_rounded(whole), small = tf32_rounded(whole - big);
      memcpy(&split.big.of[r], &big, sizeof(big));
      memcpy(&split.small.of[r], &small, sizeof(small));
    }
    return split;
  } else {
    return loaded;
  }
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
      : state_(state), lane_(recomputed(static_cast<int>(threadIdx.x)) & (kWarpLanes - 1)) {}

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

  /// The tile is aligned to 128 bytes, and `flip` stays within them: constants cost one exclusive-or.
  template <bool kTransposed, class T, class Start>
  __device__ __forceinline__ Lanes<Matrices> load_matrices(const T* tile, const Start& start, int flip,
                                                           int further) {
    constexpr int kBytes = sizeof(T);
    const uint32_t first = shared_address(tile) + static_cast<uint32_t>(start(lane_) * kBytes);
    return {ldmatrix_x4<kTransposed>((first ^ static_cast<uint32_t>(flip * kBytes)) +
                                     static_cast<uint32_t>(further * kBytes))};
  }
  template <class Address>
  __device__ __forceinline__ Lanes<Matrices> load_words(const Address& address) {
    Lanes<Matrices> loaded;
    ATTN_UNROLL
    for (int k = 0; k < 4; ++k) loaded.value.of[k] = *reinterpret_cast<const uint32_t*>(address(lane_, k));
    return loaded;
  }
  template <class T>
  __device__ __forceinline__ Lanes<MmaOperand<T>> operand(const Lanes<Matrices>& loaded) {
    return {operand_of<T>(loaded.value)};
  }
  /// c += A B; B is half `half` of two that were loaded side by side.
  template <class T, class C>
  __device__ __forceinline__ void multiply(const C& c, const Lanes<MmaOperand<T>>& a,
                                           const Lanes<MmaOperand<T>>& b, int half) {
    float(&sums)[4] = c(state_);
    const int r = 2 * half;
    if constexpr (std::is_same_v<T, float>) {
      const Matrices &big = b.value.big, &small = b.value.small;
      mma_tf32(sums, a.value.small, big.of[r], big.of[r + 1]);
      mma_tf32(sums, a.value.big, small.of[r], small.of[r + 1]);
      mma_tf32(sums, a.value.big, big.of[r], big.of[r + 1]);
    } else if constexpr (std::is_same_v<T, Bf16>) {
      mma_bf16(sums, a.value, b.value.of[r], b.value.of[r + 1]);
    } else {
      mma_f16(sums, a.value, b.value.of[r], b.value.of[r + 1]);
    }
  }

 private:
  State& state_;
  int lane_;
};

#endif  // __CUDACC__

}  // namespace attn
