#pragma once
// Measured limits of this machine: the figures that achieved rates are held against.
//
// Everything is the best of several trials of some milliseconds with all threads at work: a limit is what the
// machine can do, not what it does while others use it. The trials of different roofs take turns, so that a
// disturbance spoils a few trials of each and not all of one. Each thread walks over memory of its own, first
// touched by itself. Copying counts the bytes read plus those written, as STREAM does (without write-allocate
// traffic).

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "harness/measure/gpu_roofs.h"
#include "harness/measure/roof_limits.h"

namespace attn {

struct LevelRoof {
  std::string level;  ///< L1, L2, L3 or DRAM
  double bytes = 0;   ///< that the threads' share of it holds
  double read_bytes_per_s = 0;
  double copy_bytes_per_s = 0;
};

struct ThreadRoofs {
  double fma_f32_flops_per_s = 0;  ///< 2 FLOPs per multiply-add
  double exp_f32_per_s = 0;        ///< of the kernels' own exponential
  double sgemm_flops_per_s = 0;    ///< of the BLAS on a product of 1024 cubed; 0: it lacks so many threads
  std::vector<LevelRoof> levels;   ///< smallest first; caches the machine lacks are absent
};

struct Roofs {
  std::string target;  ///< Highway's instruction set
  std::map<int, ThreadRoofs> by_threads;
  std::optional<GpuRoofs> gpu;

  /// Zeros where that number of threads was not measured.
  RoofLimits limits(int threads) const;
  /// Of the variant's device and arithmetic.
  RoofLimits limits(const Variant& variant, const Problem& problem, int threads) const;
};

/// For 1 thread, all threads, and the numbers given; about a second for each. `gpu`: also of the GPU, where
/// there is one; this process must not be using it.
Roofs measure_roofs(const std::vector<int>& threads, bool gpu);

/// As environment.json holds them (roofs_json.cpp, for those who only read them).
nlohmann::json to_json(const Roofs& roofs);
Roofs roofs_from_json(const nlohmann::json& json);

}  // namespace attn
