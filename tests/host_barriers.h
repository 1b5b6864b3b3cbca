#pragma once
// mbarriers and named barriers of a thread block on the host, by the PTX ISA: pending count, tx-count and
// phases of the one, arrivals of warps at the other.

#include <algorithm>
#include <map>
#include <stdexcept>
#include <string>

#include "tests/host_fibers.h"

namespace attn {

struct HostMbarrier {
  int count = 0, pending = 0;
  int64_t bytes = 0;   ///< tx-count
  int64_t phases = 0;  ///< completed
  HostEvent event;
};

class HostBarriers {
 public:
  explicit HostBarriers(HostFibers& fibers) : fibers_(fibers) {}

  void init(uint32_t address, int count) {
    if (address % 8 != 0) throw std::logic_error("mbarrier: misaligned");
    if (count < 1) throw std::logic_error("mbarrier: no arrivals expected");
    if (barriers_.count(address)) throw std::logic_error("mbarrier: initialised twice");
    barriers_[address] = {count, count, 0, 0, {}};
    order_.push_back(address);
  }
  void expect(uint32_t address, int64_t bytes) {
    HostMbarrier& barrier = at(address);
    barrier.bytes += bytes;
    if (barrier.bytes >= 1 << 20) throw std::logic_error("mbarrier: more than 2^20 - 1 bytes expected");
  }
  void arrive(uint32_t address) {
    HostMbarrier& barrier = at(address);
    if (barrier.pending == 0) throw std::logic_error(name(address) + ": more arrivals than its count");
    --barrier.pending;
    complete(barrier);
  }
  void landed(uint32_t address, int64_t bytes) {
    HostMbarrier& barrier = at(address);
    barrier.bytes -= bytes;
    complete(barrier);
  }
  void wait(uint32_t address, int parity) {
    if (parity != 0 && parity != 1) throw std::logic_error("mbarrier: a parity is 0 or 1");
    HostMbarrier& barrier = at(address);
    fibers_.wait(
        barrier.event, [&] { return (barrier.phases & 1) != parity; },
        [&] {
          return name(address) + " parity " + std::to_string(parity) + " after " +
                 std::to_string(barrier.phases) + " phases, " + std::to_string(barrier.pending) +
                 " arrivals and " + std::to_string(barrier.bytes) + " bytes missing";
        });
  }

  void named_sync(int id, int threads) {
    Named& barrier = named_[id];
    const int64_t generation = named_arrive(id, threads);
    fibers_.wait(
        barrier.event, [&] { return barrier.generation != generation; },
        [id] { return "named barrier " + std::to_string(id); });
  }
  /// The generation that the arrival belongs to.
  int64_t named_arrive(int id, int threads) {
    if (id < 0 || id > 15) throw std::logic_error("named barrier: ids are 0 to 15");
    if (threads % 32 != 0) throw std::logic_error("named barrier: a count of whole warps");
    Named& barrier = named_[id];
    const std::string name = "named barrier " + std::to_string(id);
    if (barrier.arrived == 0) barrier.threads = threads;
    if (barrier.threads != threads) throw std::logic_error(name + ": two counts");
    const int64_t generation = barrier.generation;
    if (++barrier.arrived == threads) {
      barrier.arrived = 0;
      ++barrier.generation;
      fibers_.notify(barrier.event);
    }
    return generation;
  }

  /// What the end of a kernel leaves undone.
  void check_end() const {
    for (const auto& [address, barrier] : barriers_) {
      if (barrier.bytes != 0) throw std::logic_error(name(address) + ": bytes missing at the end");
      if (barrier.pending != barrier.count)
        throw std::logic_error(name(address) + ": a phase begun at the end");
    }
  }
  /// By the order of initialisation.
  int number(uint32_t address) const {
    return static_cast<int>(std::find(order_.begin(), order_.end(), address) - order_.begin());
  }
  bool holds(uint32_t address) const { return barriers_.count(address) > 0; }

 private:
  struct Named {
    int threads = 0, arrived = 0;
    int64_t generation = 0;
    HostEvent event;
  };
  HostMbarrier& at(uint32_t address) {
    const auto found = barriers_.find(address);
    if (found == barriers_.end()) throw std::logic_error("mbarrier: used before its initialisation");
    return found->second;
  }
  void complete(HostMbarrier& barrier) {
    if (barrier.pending != 0 || barrier.bytes != 0) return;
    barrier.pending = barrier.count;
    ++barrier.phases;
    fibers_.notify(barrier.event);
  }
  std::string name(uint32_t address) const { return "mbarrier " + std::to_string(number(address)); }

  HostFibers& fibers_;
  std::map<uint32_t, HostMbarrier> barriers_;
  std::vector<uint32_t> order_;
  std::map<int, Named> named_;
};

}  // namespace attn
