#include "harness/measure/roof_limits.h"

namespace attn {
namespace {

const MemoryLevel& level_that_holds(double bytes, const std::vector<MemoryLevel>& levels) {
  for (const MemoryLevel& level : levels) {
    if (bytes <= level.bytes) return level;
  }
  return levels.back();
}

}  // namespace

std::string to_text(Bound bound) {
  switch (bound) {
    case Bound::compute:
      return "compute";
    case Bound::exp:
      return "exp";
    case Bound::memory:
      return "memory";
  }
  return "?";
}

std::optional<Limit> limit_of(const Work& work, const RoofLimits& roofs) {
  if (roofs.fma_flops_per_s <= 0 || roofs.exps_per_s <= 0 || roofs.levels.empty()) return std::nullopt;
  const MemoryLevel& level = level_that_holds(work.held_bytes, roofs.levels);
  if (level.read_bytes_per_s <= 0) return std::nullopt;
  Limit limit{work.flops / roofs.fma_flops_per_s, Bound::compute};
  const double exp_s = work.exps / roofs.exps_per_s, memory_s = work.bytes / level.read_bytes_per_s;
  if (exp_s > limit.time_s) limit = {exp_s, Bound::exp};
  if (memory_s > limit.time_s) limit = {memory_s, Bound::memory};
  return limit;
}

}  // namespace attn
