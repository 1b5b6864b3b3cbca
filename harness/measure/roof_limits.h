#pragma once
// Which measured roof bounds a piece of work, and from below by how much time.

#include <optional>
#include <string>
#include <vector>

namespace attn {

/// A cache level or main memory.
struct MemoryLevel {
  double bytes = 0;  ///< that the threads' share of it holds
  double read_bytes_per_s = 0;
};

/// Roofs of one number of threads; zeros where they are not known.
struct RoofLimits {
  double fma_flops_per_s = 0;
  double exps_per_s = 0;
  std::vector<MemoryLevel> levels;  ///< smallest first; the last also takes what it cannot hold
};

/// What has to be done, whatever the order.
struct Work {
  double flops = 0;
  double exps = 0;
  double bytes = 0;       ///< of memory traffic
  double held_bytes = 0;  ///< memory that must be held meanwhile: decides the level
};

enum class Bound { compute, exp, memory };
std::string to_text(Bound bound);

struct Limit {
  double time_s = 0;
  Bound bound = Bound::compute;
};

/// The longest of FLOPs, exponentials and bytes at their roofs, as if they overlapped completely. Bytes move
/// at the read bandwidth of the smallest level that holds `held_bytes`. Nothing where the roofs are not
/// known.
std::optional<Limit> limit_of(const Work& work, const RoofLimits& roofs);

}  // namespace attn
