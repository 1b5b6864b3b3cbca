#pragma once
// Measured limits of this machine: the figures that achieved rates are held against.

#include <string>

namespace attn {

/// FLOP/s of independent float32 fused multiply-adds in registers (2 FLOPs each), best of several runs.
double fma_peak_flops_per_s(int threads);
/// Bytes per second (read plus written) of copying arrays far larger than the caches, best of several runs.
double copy_bandwidth_bytes_per_s(int threads);
/// Instruction set the multiply-adds ran with, as Highway names it.
std::string fma_target();

}  // namespace attn
