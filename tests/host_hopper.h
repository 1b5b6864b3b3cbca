#pragma once
// Thread blocks of sm_90 on the host: every thread a fiber (tests/host_fibers.h) that runs the kernel's own
// source, with the instructions of variants/common/hopper.cuh modelled. TMA copies land, wgmma reads its
// operands and stores read theirs at moments that the seed chooses, so that a missing wait, a slot reused too
// early, a wrong parity or count shows: as an error of host_shared.h or host_barriers.h, as a deadlock, or as
// a wrong result.
//
// The instructions, as members of the running thread block, stand in three parts: barriers and copies here,
// wgmma and what warps do together in tests/host_warpgroup.h.

#include <cmath>
#include <limits>

#include "tests/host_barriers.h"
#include "tests/host_shared.h"
#include "tests/host_warpgroup.h"

namespace attn {

/// An error planted into an instruction: the nth one of its kind, counted over the thread block; for waits,
/// those of all threads at the nth mbarrier.
enum class HostFault {
  none,
  arrival_lost,  ///< mbarrier.arrive
  arrival_doubled,
  count_one_more,  ///< mbarrier.init
  count_one_less,
  wait_skipped,  ///< mbarrier.try_wait
  parity_flipped,
  bytes_short,           ///< expect_tx
  load_shifted,          ///< a TMA load, one KiB further
  load_late_row,         ///< a TMA load, one row further
  named_skipped,         ///< bar.sync and bar.arrive
  group_wait_short,      ///< wgmma.wait_group, one group more may be under way
  store_wait_skipped,    ///< cp.async.bulk.wait_group
  proxy_fence_skipped,   ///< fence.proxy.async
  register_wait_skipped  ///< setmaxnreg.dec
};

struct HostRun {
  uint64_t seed = 1;
  HostFault fault = HostFault::none;
  int nth = 0;
  uint32_t shared_first = 1024;  ///< address of dynamic shared memory
};

class HostCta {
 public:
  HostCta(HostFibers& fibers, const HostRun& run, int threads, uint32_t shared_bytes)
      : fibers_(fibers),
        run_(run),
        threads_(static_cast<size_t>(threads)),
        shared_(shared_bytes, run.shared_first),
        barriers_(fibers),
        registers_(fibers, threads),
        warps_(static_cast<size_t>(threads / 32)) {
    for (int k = 0; k < threads / 128; ++k) warpgroups_.emplace_back(fibers, shared_);
  }

  HostShared& shared() { return shared_; }
  int threads() const { return static_cast<int>(threads_.size()); }

  // mbarriers ------------------------------------------------------------------------------------------
  void barrier_init(uint32_t barrier, int count) {
    shared_.range(barrier, 8);
    count += planted(HostFault::count_one_more) - planted(HostFault::count_one_less);
    barriers_.init(barrier, count);
  }
  void barrier_init_fence() { barriers_fenced_ = true; }
  void barrier_arrive(uint32_t barrier) {
    fibers_.preempt();
    if (planted(HostFault::arrival_lost)) return;
    barriers_.arrive(barrier);
    if (planted(HostFault::arrival_doubled)) barriers_.arrive(barrier);
  }
  void barrier_expect(uint32_t barrier, int64_t bytes) {
    barriers_.expect(barrier, bytes - (planted(HostFault::bytes_short) ? 16 : 0));
  }
  void barrier_wait(uint32_t barrier, int parity) {
    fibers_.preempt();
    const bool chosen = barriers_.number(barrier) == run_.nth;
    if (chosen && run_.fault == HostFault::wait_skipped) return;
    barriers_.wait(barrier, parity ^ (chosen && run_.fault == HostFault::parity_flipped ? 1 : 0));
  }

  // named barriers -------------------------------------------------------------------------------------
  void named_sync(int id, int threads) {
    fibers_.preempt();
    if (id != 0 && planted(HostFault::named_skipped)) return;
    barriers_.named_sync(id, threads);
  }
  void named_arrive(int id, int threads) {
    fibers_.preempt();
    if (planted(HostFault::named_skipped)) return;
    barriers_.named_arrive(id, threads);
  }

  // TMA ------------------------------------------------------------------------------------------------
  void load(const HostTensorMap& map, std::vector<int> corner, uint32_t to, uint32_t barrier) {
    fibers_.preempt();
    if (!barriers_fenced_) throw std::logic_error("TMA: barriers initialised without a fence");
    if (!barriers_.holds(barrier)) throw std::logic_error("TMA: no barrier");
    if (planted(HostFault::load_shifted)) to += 1024;
    if (planted(HostFault::load_late_row)) ++corner[2];
    const HostShared::Units units = shared_.range(to, map.box_bytes());
    shared_.begin_load(units);
    fibers_.later(
        [=, this] {
          tma_load(map, corner, shared_.data(), shared_.first(), to);
          shared_.end_load(units);
          barriers_.landed(barrier, map.box_bytes());
        },
        true);
  }
  /// Without a map.
  void load_plain(const void* global, uint32_t bytes, uint32_t to, uint32_t barrier) {
    fibers_.preempt();
    check_bulk(global, to, bytes);
    if (!barriers_.holds(barrier)) throw std::logic_error("bulk copy: no barrier");
    const HostShared::Units units = shared_.range(to, bytes);
    shared_.begin_load(units);
    fibers_.later(
        [=, this] {
          std::memcpy(shared_.at(to, bytes), global, bytes);
          shared_.end_load(units);
          barriers_.landed(barrier, bytes);
        },
        true);
  }
  void store(const HostTensorMap& map, const std::vector<int>& corner, uint32_t from, int thread) {
    bulk(from, map.box_bytes(), thread,
         [=](const char* bytes) { tma_store(map, corner, bytes, from, from); });
  }
  void store_plain(float* global, uint32_t from, uint32_t bytes, bool add, int thread) {
    check_bulk(global, from, bytes);
    bulk(from, bytes, thread, [=](const char* source) {
      for (uint32_t k = 0; k < bytes / 4; ++k) {
        float value;
        std::memcpy(&value, source + 4 * k, 4);
        global[k] = add ? global[k] + value : value;
      }
    });
  }
  void bulk_commit(int thread) {
    Thread& self = threads_[static_cast<size_t>(thread)];
    self.groups.push_back(self.stores.size());
  }
  /// For groups but the `youngest` last ones: until they have read shared memory, or until all is done.
  void bulk_wait(int youngest, bool only_read, int thread) {
    fibers_.preempt();
    if (planted(HostFault::store_wait_skipped)) return;
    Thread& self = threads_[static_cast<size_t>(thread)];
    const auto groups = static_cast<int>(self.groups.size());
    if (groups <= youngest) return;
    const size_t first = 0, last = self.groups[static_cast<size_t>(groups - 1 - youngest)];
    fibers_.wait(
        stored_,
        [&] {
          for (size_t k = first; k < last; ++k) {
            if (*self.stores[k].progress < (only_read ? 1 : 2)) return false;
          }
          return true;
        },
        [] { return std::string("stores of TMA"); });
    for (; self.waited < last; ++self.waited) {
      shared_.end_read(self.stores[self.waited].reading);
      self.stores[self.waited].reading = {};
    }
  }
  void proxy_fence(int thread) {
    if (!planted(HostFault::proxy_fence_skipped)) shared_.fence(thread);
    barriers_fenced_ = true;
  }

  // ordinary loads and stores --------------------------------------------------------------------------
  template <class Number>
  void write(uint32_t address, Number number, int thread) {
    shared_.write(shared_.range(address, sizeof(Number)), thread);
    std::memcpy(shared_.at(address, sizeof(Number)), &number, sizeof(Number));
  }
  template <class Number>
  Number read(uint32_t address) {
    shared_.read(shared_.range(address, sizeof(Number)));
    Number number;
    std::memcpy(&number, shared_.at(address, sizeof(Number)), sizeof(Number));
    return number;
  }

  // registers ------------------------------------------------------------------------------------------
  void registers_set(int count, bool more, int thread) {
    if (!more && planted(HostFault::register_wait_skipped)) return;
    registers_.set(count, more, thread);
  }

  // warps and warpgroups -------------------------------------------------------------------------------
  HostWarpExchange& warp(int thread) { return warps_[static_cast<size_t>(thread / 32)]; }
  HostWarpgroup& warpgroup(int thread) { return warpgroups_[static_cast<size_t>(thread / 128)]; }
  void wgmma_wait(int youngest, int thread) {
    fibers_.preempt();
    warpgroup(thread).wait(youngest + (planted(HostFault::group_wait_short) ? 1 : 0), thread % 128);
  }
  /// stmatrix.x4 of registers given by lane.
  void store_matrices(uint32_t address, const uint32_t (&registers)[4], bool transposed, int thread) {
    if (address % 16 != 0) throw std::logic_error("stmatrix: misaligned address");
    HostWarpExchange& together = warp(thread);
    const int lane = thread % 32;
    uint64_t rows[32];
    together.all(fibers_, lane, address, rows);
    for (int matrix = 0; matrix < 4; ++matrix) {
      unsigned banks = 0;
      for (int row = 0; row < 8; ++row) banks |= 1u << rows[8 * matrix + row] / 16 % 8;
      if (banks != 0xff) throw std::logic_error("stmatrix: bank conflict");
      for (int half = 0; half < 2; ++half) {
        const Cell at = matrix_element(lane, half);
        const int row = transposed ? at.column : at.row, column = transposed ? at.row : at.column;
        const auto to = static_cast<uint32_t>(rows[8 * matrix + row]) + 2 * static_cast<uint32_t>(column);
        const auto bits = static_cast<uint16_t>(registers[matrix] >> (16 * half));
        shared_.write(shared_.range(to, 2), thread);
        std::memcpy(shared_.at(to, 2), &bits, 2);
      }
    }
    together.all(fibers_, lane, 0, rows);
  }

  void check_end() {
    barriers_.check_end();
    for (Thread& thread : threads_) {
      for (size_t k = thread.waited; k < thread.stores.size(); ++k) {
        throw std::logic_error("the thread block ends before its stores have read shared memory");
      }
    }
    for (const HostWarpgroup& warpgroup : warpgroups_) warpgroup.check_end();
    if (!shared_.idle()) throw std::logic_error("the thread block ends with copies under way");
  }
  /// Whether this call of an instruction is the one to go wrong.
  int planted(HostFault fault) { return run_.fault == fault && calls_++ == run_.nth ? 1 : 0; }

 private:
  struct Store {
    HostShared::Reading reading;
    std::shared_ptr<int> progress;  ///< 1: shared memory read; 2: global memory written
  };
  struct Thread {
    std::vector<Store> stores;
    std::vector<size_t> groups;  ///< number of stores up to the end of each
    size_t waited = 0;           ///< stores known to have read shared memory
  };
  static void check_bulk(const void* global, uint32_t shared, uint32_t bytes) {
    if (reinterpret_cast<uintptr_t>(global) % 16 != 0 || shared % 16 != 0 || bytes % 16 != 0) {
      throw std::logic_error("bulk copy: no multiples of 16 bytes");
    }
  }
  /// write(bytes) comes some time after they were read.
  template <class Write>
  void bulk(uint32_t from, uint32_t bytes, int thread, const Write& write) {
    fibers_.preempt();
    const auto progress = std::make_shared<int>(0);
    threads_[static_cast<size_t>(thread)].stores.push_back(
        {shared_.begin_read(shared_.range(from, bytes)), progress});
    fibers_.later([=, this] {
      const std::vector<char> read(shared_.at(from, bytes), shared_.at(from, bytes) + bytes);
      *progress = 1;
      fibers_.notify(stored_);
      fibers_.later([=, this] {
        write(read.data());
        *progress = 2;
        fibers_.notify(stored_);
      });
    });
  }

  HostFibers& fibers_;
  HostRun run_;
  std::vector<Thread> threads_;
  HostShared shared_;
  HostBarriers barriers_;
  HostRegisters registers_;
  std::vector<HostWarpExchange> warps_;
  std::deque<HostWarpgroup> warpgroups_;
  HostEvent stored_;
  bool barriers_fenced_ = false;
  int calls_ = 0;
};

}  // namespace attn
