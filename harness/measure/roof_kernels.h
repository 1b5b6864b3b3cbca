#pragma once
// The inner loops of the roofs, on the calling thread, with the best instruction set of this machine. Each
// returns how much it did and leaves in `sink` a value that depends on all of it.

#include <cstddef>
#include <cstdint>
#include <string>

namespace attn {

/// FLOPs of independent float32 fused multiply-adds in registers, 2 each.
double run_multiply_adds(int64_t repeats, float* sink);
/// Exponentials of the CPU kernels, from and to arrays in the smallest cache.
double run_exponentials(int64_t repeats, float* sink);
/// Bytes read, `repeats` times [memory, memory + bytes); aligned to a vector, `bytes` a multiple of
/// kReadGranule.
double run_reads(const std::byte* memory, size_t bytes, int64_t repeats, float* sink);
inline constexpr size_t kReadGranule = 4096;

/// Instruction set these loops run with, as Highway names it.
std::string simd_target();

}  // namespace attn
