#include "harness/measure/topology.h"

#include <hwloc.h>

#include <algorithm>
#include <memory>
#include <stdexcept>
#include <utility>

namespace attn {
namespace {

/// Cores, packages and caches alone: devices and memory are left out.
class Machine {
 public:
  Machine() {
    hwloc_topology_init(&topology_);
    hwloc_topology_set_all_types_filter(topology_, HWLOC_TYPE_FILTER_KEEP_NONE);
    for (const hwloc_obj_type_t type :
         {HWLOC_OBJ_PACKAGE, HWLOC_OBJ_CORE, HWLOC_OBJ_L1CACHE, HWLOC_OBJ_L2CACHE, HWLOC_OBJ_L3CACHE}) {
      hwloc_topology_set_type_filter(topology_, type, HWLOC_TYPE_FILTER_KEEP_ALL);
    }
    if (hwloc_topology_load(topology_) != 0) throw std::runtime_error("hwloc cannot read the topology");
    if (hwloc_get_cpubind(topology_, usable_.get(), HWLOC_CPUBIND_PROCESS) != 0) {
      hwloc_bitmap_copy(usable_.get(), hwloc_topology_get_allowed_cpuset(topology_));
    }
  }
  Machine(const Machine&) = delete;
  ~Machine() { hwloc_topology_destroy(topology_); }

  int count(hwloc_obj_type_t type) const { return std::max(0, hwloc_get_nbobjs_by_type(topology_, type)); }

  /// Count 0 where no usable CPU has such a cache.
  Cache cache(hwloc_obj_type_t type, const char* level) const {
    Cache cache{.level = level};
    for (hwloc_obj_t o = nullptr; (o = hwloc_get_next_obj_by_type(topology_, type, o)) != nullptr;) {
      if (!hwloc_bitmap_intersects(o->cpuset, usable_.get()) || o->attr->cache.size == 0) continue;
      const auto bytes = static_cast<int64_t>(o->attr->cache.size);
      cache.bytes = cache.count == 0 ? bytes : std::min(cache.bytes, bytes);
      cache.line_bytes = static_cast<int64_t>(o->attr->cache.linesize);
      cache.cores =
          std::max(cache.cores, hwloc_get_nbobjs_inside_cpuset_by_type(topology_, o->cpuset, HWLOC_OBJ_CORE));
      ++cache.count;
    }
    return cache;
  }

 private:
  struct Free {
    void operator()(hwloc_bitmap_t set) const { hwloc_bitmap_free(set); }
  };
  hwloc_topology_t topology_ = nullptr;
  std::unique_ptr<hwloc_bitmap_s, Free> usable_{hwloc_bitmap_alloc()};
};

Topology read_topology() {
  const Machine machine;
  Topology found{
      machine.count(HWLOC_OBJ_PACKAGE), machine.count(HWLOC_OBJ_CORE), machine.count(HWLOC_OBJ_PU), {}};
  const std::pair<hwloc_obj_type_t, const char*> levels[] = {
      {HWLOC_OBJ_L1CACHE, "L1d"}, {HWLOC_OBJ_L2CACHE, "L2"}, {HWLOC_OBJ_L3CACHE, "L3"}};
  for (const auto& [type, level] : levels) {
    if (Cache cache = machine.cache(type, level); cache.count > 0) found.caches.push_back(std::move(cache));
  }
  return found;
}

}  // namespace

int64_t Topology::bytes_of_core(std::string_view level) const {
  const auto found = std::find_if(caches.begin(), caches.end(),
                                  [level](const Cache& cache) { return cache.level == level; });
  return found == caches.end() ? 0 : found->bytes / found->cores;
}

const Topology& topology() {
  static const Topology found = read_topology();
  return found;
}

}  // namespace attn
