#include "harness/measure/topology.h"

#include <hwloc.h>

#include <stdexcept>
#include <utility>

namespace attn {
namespace {

struct Handle {
  hwloc_topology_t topology = nullptr;
  Handle() {
    hwloc_topology_init(&topology);
    if (hwloc_topology_load(topology) != 0) throw std::runtime_error("hwloc cannot read the topology");
  }
  Handle(const Handle&) = delete;
  ~Handle() { hwloc_topology_destroy(topology); }
  int count(hwloc_obj_type_t type) const { return hwloc_get_nbobjs_by_type(topology, type); }
};

std::vector<Cache> read_caches(const Handle& handle) {
  std::vector<Cache> caches;
  const std::pair<hwloc_obj_type_t, const char*> levels[] = {
      {HWLOC_OBJ_L1CACHE, "L1d"}, {HWLOC_OBJ_L2CACHE, "L2"}, {HWLOC_OBJ_L3CACHE, "L3"}};
  for (const auto& [type, level] : levels) {
    const int count = handle.count(type);
    if (count <= 0) continue;
    const auto& cache = hwloc_get_obj_by_type(handle.topology, type, 0)->attr->cache;
    caches.push_back({level, static_cast<int64_t>(cache.size), static_cast<int64_t>(cache.linesize), count});
  }
  return caches;
}

}  // namespace

Topology read_topology() {
  const Handle handle;
  return {handle.count(HWLOC_OBJ_PACKAGE), handle.count(HWLOC_OBJ_CORE), handle.count(HWLOC_OBJ_PU),
          read_caches(handle)};
}

}  // namespace attn
