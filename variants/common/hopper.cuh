#pragma once
// PTX instructions of sm_90a, one wrapper each (the products: wgmma.cuh). Shared memory is named by its
// 32-bit address, as the instructions take it. A kernel that uses them has its body inside
// #if defined(ATTN_SM90A); on other architectures it is empty and never launched.

#include "harness/problem/mask.h"
#include "variants/common/block.cuh"
#include "variants/common/wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define ATTN_SM90A
#endif
// Source that uses them is for nvcc, and for the host where a test models them (tests/host_sm90.h).
#if defined(__CUDACC__) || defined(ATTN_HOST_SM90)
#define ATTN_HOPPER
#endif

namespace attn {

inline constexpr int kWarpgroupThreads = 128;

/// What the second-level cache does with lines that TMA reads.
enum class L2Hint : uint64_t {
  normal = 0x1000000000000000,
  evict_first = 0x12f0000000000000,
  evict_last = 0x14f0000000000000,
};

/// A place in a ring of kStages buffers and the parity of its turn. Who fills waits on `empty` barriers with
/// parity ^ 1, which lets the first turn through; who uses waits on `full` barriers with parity.
template <int kStages>
struct RingPlace {
  int stage = 0;
  uint32_t parity = 0;

  ATTN_HOST_DEVICE void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

#if defined(__CUDACC__)

/// Registers of each thread of a warpgroup: all of its warps call it.
template <int count>
__device__ __forceinline__ void give_registers_back() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(count));
}
template <int count>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(count));
}

/// True in one lane of the warp, all lanes of which call it.
__device__ __forceinline__ bool elect_one() {
  uint32_t elected;
  asm volatile("{.reg .pred p; elect.sync _|p, 0xffffffff; selp.b32 %0, 1, 0, p;}" : "=r"(elected));
  return elected != 0;
}
/// The same number in all lanes, told to the compiler.
__device__ __forceinline__ int uniform(int value) { return __shfl_sync(0xffffffffu, value, 0); }

// mbarrier: 8 bytes of shared memory that count arrivals and bytes. A phase ends when `arrivals` have come
// and no announced bytes are missing; the first phase has parity 0.

__device__ __forceinline__ void barrier_init(uint32_t barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(arrivals) : "memory");
}
/// After barrier_init(), by the same thread, before the block's __syncthreads(): TMA sees the barriers.
__device__ __forceinline__ void barrier_init_fence() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}
__device__ __forceinline__ void barrier_arrive(uint32_t barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(barrier) : "memory");
}
/// Arrives, and announces bytes that TMA will write.
__device__ __forceinline__ void barrier_expect(uint32_t barrier, uint32_t bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(barrier), "r"(bytes)
               : "memory");
}
/// Whether the phase of this parity has ended; waits a while for it.
__device__ __forceinline__ bool barrier_try(uint32_t barrier, uint32_t parity) {
  uint32_t ended;
  asm volatile("{.reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2; selp.b32 %0, 1, 0, p;}"
               : "=r"(ended)
               : "r"(barrier), "r"(parity)
               : "memory");
  return ended != 0;
}
/// Waits for the end of the phase of this parity. Compiled with ATTN_BARRIER_TRIES, it gives up after so many
/// tries: to look for a mistake, as wrong results tell more than a kernel that hangs.
__device__ __forceinline__ void barrier_wait(uint32_t barrier, uint32_t parity) {
#if defined(ATTN_BARRIER_TRIES)
  for (int tries = 0; tries < ATTN_BARRIER_TRIES && !barrier_try(barrier, parity); ++tries) {
  }
#else
  while (!barrier_try(barrier, parity)) {
  }
#endif
}

// Named barriers, 1 to 15 (0 is __syncthreads). `threads` counts both those that wait and those that only
// arrive. Numbers are immediate: else the assembler reserves all sixteen.

template <int id, int threads>
__device__ __forceinline__ void named_sync() {
  asm volatile("bar.sync %0, %1;" ::"n"(id), "n"(threads) : "memory");
}
template <int id, int threads>
__device__ __forceinline__ void named_arrive() {
  asm volatile("bar.arrive %0, %1;" ::"n"(id), "n"(threads) : "memory");
}

/// What the thread has written to shared memory is there for TMA and wgmma, once a barrier follows.
__device__ __forceinline__ void async_proxy_fence() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// TMA: one thread copies a box of a tensor (tensor_map.h); `map` is the address of a __grid_constant__
// parameter, c0 .. c3 the box's first element: channel, head, row, batch entry. What lies outside the tensor
// is read as zeros, which count as bytes, and not written.

__device__ __forceinline__ void tma_prefetch_map(const void* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}
__device__ __forceinline__ void tma_load(uint32_t to, const void* map, uint32_t barrier, int c0, int c1,
                                         int c2, int c3, L2Hint hint) {
  asm volatile(
      "cp.async.bulk.tensor.4d.shared::cluster.global.tile.mbarrier::complete_tx::bytes.L2::cache_hint "
      "[%0], [%1, {%3, %4, %5, %6}], [%2], %7;" ::"r"(to),
      "l"(map), "r"(barrier), "r"(c0), "r"(c1), "r"(c2), "r"(c3), "l"(static_cast<uint64_t>(hint))
      : "memory");
}
__device__ __forceinline__ void tma_store(const void* map, uint32_t from, int c0, int c1, int c2, int c3) {
  asm volatile(
      "cp.async.bulk.tensor.4d.global.shared::cta.tile.bulk_group [%0, {%2, %3, %4, %5}], [%1];" ::"l"(map),
      "r"(from), "r"(c0), "r"(c1), "r"(c2), "r"(c3)
      : "memory");
}
/// Contiguous bytes to shared memory, counted at the barrier as by tma_load(); `bytes` and both addresses are
/// multiples of 16.
__device__ __forceinline__ void bulk_load(uint32_t to, const void* from, uint32_t bytes, uint32_t barrier) {
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to),
      "l"(from), "r"(bytes), "r"(barrier)
      : "memory");
}
/// Adds float32 numbers to global memory; `bytes` and both addresses are multiples of 16.
__device__ __forceinline__ void bulk_add(float* to, uint32_t from, uint32_t bytes) {
  asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to),
               "r"(from), "r"(bytes)
               : "memory");
}
/// The same without adding.
__device__ __forceinline__ void bulk_store(float* to, uint32_t from, uint32_t bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes)
               : "memory");
}
/// The thread's stores and additions since the last commit become a group.
__device__ __forceinline__ void bulk_commit() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until all of the thread's groups but the kYoungest last ones have read shared memory.
template <int kYoungest>
__device__ __forceinline__ void bulk_wait_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kYoungest) : "memory");
}
/// Waits until they are done.
template <int kYoungest>
__device__ __forceinline__ void bulk_wait() {
  asm volatile("cp.async.bulk.wait_group %0;" ::"n"(kYoungest) : "memory");
}

// Counters in global memory, by which thread blocks put what they write there in order: counter_add() after
// bulk_wait<0>(), counter_wait() before the next block's stores and additions. By one thread each.

/// What the thread wrote before, TMA's stores that it waited for included, is there for whoever sees the
/// count.
__device__ __forceinline__ void counter_add(uint32_t* counter) {
  asm volatile("fence.proxy.async;" ::: "memory");
  asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(counter) : "memory");
}
/// Waits until the counter is at least `count`. ATTN_BARRIER_TRIES as in barrier_wait().
__device__ __forceinline__ void counter_wait(const uint32_t* counter, uint32_t count) {
  uint32_t seen;
  for (int64_t tries = 0;; ++tries) {
    asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(counter) : "memory");
    if (seen >= count) break;
#if defined(ATTN_BARRIER_TRIES)
    if (tries > int64_t{ATTN_BARRIER_TRIES}) __trap();
#endif
  }
  asm volatile("fence.proxy.async;" ::: "memory");
}

__device__ __forceinline__ void shared_store(uint32_t address, int value) {
  asm volatile("st.shared.b32 [%0], %1;" ::"r"(address), "r"(value) : "memory");
}
__device__ __forceinline__ void shared_store_16(uint32_t address, uint16_t value) {
  asm volatile("st.shared.b16 [%0], %1;" ::"r"(address), "h"(value) : "memory");
}
/// 16 bytes of zeros.
__device__ __forceinline__ void shared_clear(uint32_t address) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %1, %1, %1};" ::"r"(address), "r"(0) : "memory");
}
__device__ __forceinline__ int shared_load(uint32_t address) {
  int value;
  asm volatile("ld.shared.b32 %0, [%1];" : "=r"(value) : "r"(address) : "memory");
  return value;
}
__device__ __forceinline__ float shared_load_float(uint32_t address) {
  return __int_as_float(shared_load(address));
}

/// Four 8x8 matrices of 16-bit numbers: lane l names 16 bytes, row l % 8 of matrix l / 8, and holds the
/// numbers 2 (l % 4), 2 (l % 4) + 1 of row l / 4 of each.
__device__ __forceinline__ void stmatrix_x4(uint32_t address, uint32_t m0, uint32_t m1, uint32_t m2,
                                            uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(m0),
               "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}
__device__ __forceinline__ void stmatrix_x4_transposed(uint32_t address, uint32_t m0, uint32_t m1,
                                                       uint32_t m2, uint32_t m3) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address),
               "r"(m0), "r"(m1), "r"(m2), "r"(m3)
               : "memory");
}

#endif  // __CUDACC__

/// Byte of a chunk [rows][64] of 16-bit numbers at (row, column) under the 128-byte swizzle, as TMA, wgmma
/// and stmatrix have it: the number of the 16 bytes within a row is exclusive-ored with row % 8.
ATTN_HOST_DEVICE constexpr uint32_t swizzled_128(int row, int column) {
  return static_cast<uint32_t>(row * 128 + (((column >> 3) ^ (row & 7)) << 4) + (column & 7) * 2);
}

}  // namespace attn
