#pragma once
// wgmma (sm_90a): the four warps of a warpgroup multiply A [64, 16] by B [16, n] and add to float32 sums D.
// B lies in shared memory, A there or in registers; both of Bf16 or F16.
//
//   d  float[n / 2] of each thread: d[4 k .. 4 k + 3] are at rows r, r, r + 8, r + 8 and columns c, c + 1, c,
//      c + 1, where r = 16 warp + lane / 4 and c = 8 k + 2 (lane % 4)
//   a  in registers, uint32[4]: pairs at (r, c), (r + 8, c), (r, c + 8), (r + 8, c + 8). So the sums d[8 k]
//   to
//      d[8 k + 7], packed in pairs, are the A operand of the k-th 16 columns of the next product
//
// What runs behind the threads' backs: wgmma_fence() before the first product and after any write to d or a;
// wgmma_commit() makes a group; d, a and the tiles stay untouched until wgmma_wait().

#include "harness/problem/mask.h"
#include "variants/common/gpu_tensor.cuh"

namespace attn {

/// Where an operand lies in shared memory: a tile as TMA writes it with the 128-byte swizzle, that is chunks
/// of 64 columns, each [rows][64], which start at multiples of 1024 bytes.
struct WgmmaOperand {
  static constexpr int kChunkColumns = 64;
  static constexpr int kRowBytes = 128;  ///< of a chunk
  static constexpr uint64_t kSwizzle128 = uint64_t{1} << 62;

  /// `leading` and `stride` in bytes.
  ATTN_HOST_DEVICE static constexpr uint64_t descriptor(uint32_t address, uint32_t leading, uint32_t stride) {
    return kSwizzle128 | uint64_t{(address & 0x3ffffu) >> 4} | uint64_t{leading >> 4} << 16 |
           uint64_t{stride >> 4} << 32;
  }
  /// 16 columns from 16 k on, of `rows` rows that are the rows of A or the columns of B ("K-major"): Q and K.
  /// A's 64 rows may start at any multiple of 8.
  ATTN_HOST_DEVICE static constexpr uint64_t along(uint32_t tile, int rows, int k) {
    return descriptor(tile, 16, 8 * kRowBytes) + further(k / 4 * rows * kRowBytes + k % 4 * 32);
  }
  /// 16 rows from 16 k on, of `rows`, whose columns are the columns of B, or the rows of A ("MN-major", trans
  /// = 1): V.
  ATTN_HOST_DEVICE static constexpr uint64_t across(uint32_t tile, int rows, int k) {
    return descriptor(tile, static_cast<uint32_t>(rows * kRowBytes), 8 * kRowBytes) +
           further(k * 16 * kRowBytes);
  }

 private:
  /// Added to a finished descriptor, a constant costs nothing; shared memory ends before the sum overflows.
  ATTN_HOST_DEVICE static constexpr uint64_t further(int bytes) { return static_cast<uint64_t>(bytes >> 4); }
};

#if defined(__CUDACC__)

template <class T, int n>
struct Wgmma;

// clang-format off
#define ATTN_D0 "%0, %1, %2, %3, %4, %5, %6, %7"
#define ATTN_D8 "%8, %9, %10, %11, %12, %13, %14, %15"
#define ATTN_D16 "%16, %17, %18, %19, %20, %21, %22, %23"
#define ATTN_D24 "%24, %25, %26, %27, %28, %29, %30, %31"
#define ATTN_D32 "%32, %33, %34, %35, %36, %37, %38, %39"
#define ATTN_D40 "%40, %41, %42, %43, %44, %45, %46, %47"
#define ATTN_D48 "%48, %49, %50, %51, %52, %53, %54, %55"
#define ATTN_D56 "%56, %57, %58, %59, %60, %61, %62, %63"
#define ATTN_D64 "%64, %65, %66, %67, %68, %69, %70, %71"
#define ATTN_D72 "%72, %73, %74, %75, %76, %77, %78, %79"
#define ATTN_D80 "%80, %81, %82, %83, %84, %85, %86, %87"
#define ATTN_D88 "%88, %89, %90, %91, %92, %93, %94, %95"
#define ATTN_D96 "%96, %97, %98, %99, %100, %101, %102, %103"
#define ATTN_D104 "%104, %105, %106, %107, %108, %109, %110, %111"
#define ATTN_D112 "%112, %113, %114, %115, %116, %117, %118, %119"
#define ATTN_D120 "%120, %121, %122, %123, %124, %125, %126, %127"
#define ATTN_SUMS_8(d, k) \
  "+f"(d[k]), "+f"(d[k + 1]), "+f"(d[k + 2]), "+f"(d[k + 3]), \
  "+f"(d[k + 4]), "+f"(d[k + 5]), "+f"(d[k + 6]), "+f"(d[k + 7])
#define ATTN_SUMS_16(d, k) ATTN_SUMS_8(d, k), ATTN_SUMS_8(d, k + 8)
#define ATTN_SUMS_32(d, k) ATTN_SUMS_16(d, k), ATTN_SUMS_16(d, k + 16)
#define ATTN_SUMS_64(d, k) ATTN_SUMS_32(d, k), ATTN_SUMS_32(d, k + 32)

// `add` 0: d = A B instead of d += A B. p0 .. p6 are the places of the operands behind d.
#define ATTN_WGMMA(T, n, type, places, sums, p0, p1, p2, p3, p4, p5, p6)                                 \
  template <>                                                                                            \
  struct Wgmma<T, n> {                                                                                   \
    template <int kTransA, int kTransB>                                                                  \
    __device__ __forceinline__ static void shared(float (&d)[n / 2], uint64_t a, uint64_t b, int add) {  \
      asm volatile("{.reg .pred p; setp.ne.b32 p, " p2 ", 0;\n"                                          \
                   "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" places "}, "     \
                   p0 ", " p1 ", p, 1, 1, " p3 ", " p4 ";}\n"                                            \
                   : sums : "l"(a), "l"(b), "r"(add), "n"(kTransA), "n"(kTransB));                       \
    }                                                                                                    \
    template <int kTransB>                                                                               \
    __device__ __forceinline__ static void registers(float (&d)[n / 2], const uint32_t* a, uint64_t b,   \
                                                     int add) {                                          \
      asm volatile("{.reg .pred p; setp.ne.b32 p, " p5 ", 0;\n"                                          \
                   "wgmma.mma_async.sync.aligned.m64n" #n "k16.f32." type "." type " {" places "}, {"    \
                   p0 ", " p1 ", " p2 ", " p3 "}, " p4 ", p, 1, 1, " p6 ";}\n"                           \
                   : sums : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(add), "n"(kTransB)); \
    }                                                                                                    \
  }
#define ATTN_PLACES_16 ATTN_D0
#define ATTN_SUMS_OF_16(d) ATTN_SUMS_8(d, 0)
#define ATTN_PLACES_32 ATTN_PLACES_16 ", " ATTN_D8
#define ATTN_SUMS_OF_32(d) ATTN_SUMS_16(d, 0)
#define ATTN_PLACES_64 ATTN_PLACES_32 ", " ATTN_D16 ", " ATTN_D24
#define ATTN_SUMS_OF_64(d) ATTN_SUMS_32(d, 0)
#define ATTN_PLACES_80 ATTN_PLACES_64 ", " ATTN_D32
#define ATTN_SUMS_OF_80(d) ATTN_SUMS_32(d, 0), ATTN_SUMS_8(d, 32)
#define ATTN_PLACES_96 ATTN_PLACES_80 ", " ATTN_D40
#define ATTN_SUMS_OF_96(d) ATTN_SUMS_32(d, 0), ATTN_SUMS_16(d, 32)
#define ATTN_PLACES_112 ATTN_PLACES_96 ", " ATTN_D48
#define ATTN_SUMS_OF_112(d) ATTN_SUMS_32(d, 0), ATTN_SUMS_16(d, 32), ATTN_SUMS_8(d, 48)
#define ATTN_PLACES_128 ATTN_PLACES_112 ", " ATTN_D56
#define ATTN_SUMS_OF_128(d) ATTN_SUMS_64(d, 0)
#define ATTN_PLACES_160 ATTN_PLACES_128 ", " ATTN_D64 ", " ATTN_D72
#define ATTN_SUMS_OF_160(d) ATTN_SUMS_64(d, 0), ATTN_SUMS_16(d, 64)
#define ATTN_PLACES_176 ATTN_PLACES_160 ", " ATTN_D80
#define ATTN_SUMS_OF_176(d) ATTN_SUMS_64(d, 0), ATTN_SUMS_16(d, 64), ATTN_SUMS_8(d, 80)
#define ATTN_PLACES_192 ATTN_PLACES_176 ", " ATTN_D88
#define ATTN_SUMS_OF_192(d) ATTN_SUMS_64(d, 0), ATTN_SUMS_32(d, 64)
#define ATTN_PLACES_256 ATTN_PLACES_192 ", " ATTN_D96 ", " ATTN_D104 ", " ATTN_D112 ", " ATTN_D120
#define ATTN_SUMS_OF_256(d) ATTN_SUMS_64(d, 0), ATTN_SUMS_64(d, 64)
ATTN_WGMMA(Bf16, 16, "bf16", ATTN_PLACES_16, ATTN_SUMS_OF_16(d),
           "%8", "%9", "%10", "%11", "%12", "%13", "%14");
ATTN_WGMMA(F16, 16, "f16", ATTN_PLACES_16, ATTN_SUMS_OF_16(d),
           "%8", "%9", "%10", "%11", "%12", "%13", "%14");
ATTN_WGMMA(Bf16, 32, "bf16", ATTN_PLACES_32, ATTN_SUMS_OF_32(d),
           "%16", "%17", "%18", "%19", "%20", "%21", "%22");
ATTN_WGMMA(F16, 32, "f16", ATTN_PLACES_32, ATTN_SUMS_OF_32(d),
           "%16", "%17", "%18", "%19", "%20", "%21", "%22");
ATTN_WGMMA(Bf16, 64, "bf16", ATTN_PLACES_64, ATTN_SUMS_OF_64(d),
           "%32", "%33", "%34", "%35", "%36", "%37", "%38");
ATTN_WGMMA(F16, 64, "f16", ATTN_PLACES_64, ATTN_SUMS_OF_64(d),
           "%32", "%33", "%34", "%35", "%36", "%37", "%38");
ATTN_WGMMA(Bf16, 80, "bf16", ATTN_PLACES_80, ATTN_SUMS_OF_80(d),
           "%40", "%41", "%42", "%43", "%44", "%45", "%46");
ATTN_WGMMA(F16, 80, "f16", ATTN_PLACES_80, ATTN_SUMS_OF_80(d),
           "%40", "%41", "%42", "%43", "%44", "%45", "%46");
ATTN_WGMMA(Bf16, 96, "bf16", ATTN_PLACES_96, ATTN_SUMS_OF_96(d),
           "%48", "%49", "%50", "%51", "%52", "%53", "%54");
ATTN_WGMMA(F16, 96, "f16", ATTN_PLACES_96, ATTN_SUMS_OF_96(d),
           "%48", "%49", "%50", "%51", "%52", "%53", "%54");
ATTN_WGMMA(Bf16, 112, "bf16", ATTN_PLACES_112, ATTN_SUMS_OF_112(d),
           "%56", "%57", "%58", "%59", "%60", "%61", "%62");
ATTN_WGMMA(F16, 112, "f16", ATTN_PLACES_112, ATTN_SUMS_OF_112(d),
           "%56", "%57", "%58", "%59", "%60", "%61", "%62");
ATTN_WGMMA(Bf16, 128, "bf16", ATTN_PLACES_128, ATTN_SUMS_OF_128(d),
           "%64", "%65", "%66", "%67", "%68", "%69", "%70");
ATTN_WGMMA(F16, 128, "f16", ATTN_PLACES_128, ATTN_SUMS_OF_128(d),
           "%64", "%65", "%66", "%67", "%68", "%69", "%70");
ATTN_WGMMA(Bf16, 160, "bf16", ATTN_PLACES_160, ATTN_SUMS_OF_160(d),
           "%80", "%81", "%82", "%83", "%84", "%85", "%86");
ATTN_WGMMA(F16, 160, "f16", ATTN_PLACES_160, ATTN_SUMS_OF_160(d),
           "%80", "%81", "%82", "%83", "%84", "%85", "%86");
ATTN_WGMMA(Bf16, 176, "bf16", ATTN_PLACES_176, ATTN_SUMS_OF_176(d),
           "%88", "%89", "%90", "%91", "%92", "%93", "%94");
ATTN_WGMMA(F16, 176, "f16", ATTN_PLACES_176, ATTN_SUMS_OF_176(d),
           "%88", "%89", "%90", "%91", "%92", "%93", "%94");
ATTN_WGMMA(Bf16, 192, "bf16", ATTN_PLACES_192, ATTN_SUMS_OF_192(d),
           "%96", "%97", "%98", "%99", "%100", "%101", "%102");
ATTN_WGMMA(F16, 192, "f16", ATTN_PLACES_192, ATTN_SUMS_OF_192(d),
           "%96", "%97", "%98", "%99", "%100", "%101", "%102");
ATTN_WGMMA(Bf16, 256, "bf16", ATTN_PLACES_256, ATTN_SUMS_OF_256(d),
           "%128", "%129", "%130", "%131", "%132", "%133", "%134");
ATTN_WGMMA(F16, 256, "f16", ATTN_PLACES_256, ATTN_SUMS_OF_256(d),
           "%128", "%129", "%130", "%131", "%132", "%133", "%134");
#undef ATTN_WGMMA
#undef ATTN_D0
#undef ATTN_D8
#undef ATTN_D16
#undef ATTN_D24
#undef ATTN_D32
#undef ATTN_D40
#undef ATTN_D48
#undef ATTN_D56
#undef ATTN_D64
#undef ATTN_D72
#undef ATTN_D80
#undef ATTN_D88
#undef ATTN_D96
#undef ATTN_D104
#undef ATTN_D112
#undef ATTN_D120
#undef ATTN_SUMS_8
#undef ATTN_SUMS_16
#undef ATTN_SUMS_32
#undef ATTN_SUMS_64
#undef ATTN_PLACES_16
#undef ATTN_SUMS_OF_16
#undef ATTN_PLACES_32
#undef ATTN_SUMS_OF_32
#undef ATTN_PLACES_64
#undef ATTN_SUMS_OF_64
#undef ATTN_PLACES_80
#undef ATTN_SUMS_OF_80
#undef ATTN_PLACES_96
#undef ATTN_SUMS_OF_96
#undef ATTN_PLACES_112
#undef ATTN_SUMS_OF_112
#undef ATTN_PLACES_128
#undef ATTN_SUMS_OF_128
#undef ATTN_PLACES_160
#undef ATTN_SUMS_OF_160
#undef ATTN_PLACES_176
#undef ATTN_SUMS_OF_176
#undef ATTN_PLACES_192
#undef ATTN_SUMS_OF_192
#undef ATTN_PLACES_256
#undef ATTN_SUMS_OF_256
// clang-format on

/// d (+)= A B; both from shared memory. Descriptors by WgmmaOperand; kTrans: 0 along, 1 across.
template <class T, int n, int kTransA, int kTransB>
__device__ __forceinline__ void wgmma_shared(float (&d)[n / 2], uint64_t a, uint64_t b, bool add) {
  Wgmma<T, n>::template shared<kTransA, kTransB>(d, a, b, add ? 1 : 0);
}
/// A from four registers of each thread.
template <class T, int n, int kTransB>
__device__ __forceinline__ void wgmma_registers(float (&d)[n / 2], const uint32_t* a, uint64_t b, bool add) {
  Wgmma<T, n>::template registers<kTransB>(d, a, b, add ? 1 : 0);
}

__device__ __forceinline__ void wgmma_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void wgmma_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits for all of the warp's groups but the kYoungest last ones.
template <int kYoungest>
__device__ __forceinline__ void wgmma_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kYoungest) : "memory");
}
/// Reads and writes of `d` do not move over this line.
template <int count>
__device__ __forceinline__ void wgmma_hold(float (&d)[count]) {
  ATTN_UNROLL
  for (int k = 0; k < count; ++k) asm volatile("" : "+f"(d[k])::"memory");
}
/// What stands in `d` no longer matters: the next product does not add to it. Else the compiler keeps it
/// alive up to there.
template <int count>
__device__ __forceinline__ void wgmma_forget(float (&d)[count]) {
  ATTN_UNROLL
  for (int k = 0; k < count; ++k) asm volatile("" : "=f"(d[k]));
}
template <int count>
__device__ __forceinline__ void wgmma_hold(uint32_t (&a)[count]) {
  ATTN_UNROLL
  for (int k = 0; k < count; ++k) asm volatile("" : "+r"(a[k])::"memory");
}

#endif  // __CUDACC__

}  // namespace attn
