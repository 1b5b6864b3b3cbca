#pragma once
// A thread block on the host (variants/common/block.cuh): phases are queued and run at the next barrier, warp
// after warp, each warp through all of them. With the warps in ascending and in descending order, a read that
// needs a missing barrier meets values from before or after its time. Asynchronous copies land at once or at
// the wait for them, alike. Shared memory starts as NaN.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <functional>
#include <limits>
#include <stdexcept>
#include <vector>

#include "tests/host_warp.h"
#include "variants/common/block.cuh"

namespace attn {

struct HostSchedule {
  bool descending = false;          ///< order of the warps between two barriers
  bool late_copies = false;         ///< copies land at the wait
  int64_t* copied_bytes = nullptr;  ///< if given: what asynchronous copies read is added
};

template <class State>
class HostBlock {
 public:
  using Thread = State;
  static constexpr int kWarp = 32;

  HostBlock(int threads, HostSchedule schedule)
      : schedule_(schedule),
        states_(static_cast<size_t>(threads)),
        copies_(static_cast<size_t>(threads), std::deque<CopyGroup>(1)) {}

  template <class Phase>
  void each(const Phase& phase) {
    queue_.push_back([this, phase](int warp) {
      for (int lane = 0; lane < kWarp; ++lane) {
        current_ = warp * kWarp + lane;
        phase(*this, current_, state(current_));
      }
    });
  }

  void converge() {}
  template <class Phase>
  void each_warp(const Phase& phase) {
    queue_.push_back([this, phase](int warp) {
      HostWarp<State> together(&state(warp * kWarp), warp);
      phase(together);
    });
  }

  void sync() {
    const int warps = static_cast<int>(states_.size()) / kWarp;
    for (int k = 0; k < warps; ++k) {
      for (const auto& step : queue_) step(schedule_.descending ? warps - 1 - k : k);
    }
    queue_.clear();
  }

  bool sync_any(bool State::*flag) {
    sync();
    return std::any_of(states_.begin(), states_.end(), [flag](const State& state) { return state.*flag; });
  }

  template <class Combine, int lanes, int count>
  void reduce(float (State::*field)[count]) {
    queue_.push_back([this, field](int warp) {
      for (int offset = lanes / 2; offset > 0; offset /= 2) {
        for (int k = 0; k < count; ++k) {
          float value[kWarp];
          for (int lane = 0; lane < kWarp; ++lane) value[lane] = (state(warp * kWarp + lane).*field)[k];
          for (int lane = 0; lane < kWarp; ++lane) {
            (state(warp * kWarp + lane).*field)[k] = Combine::of(value[lane], value[lane ^ offset]);
          }
        }
      }
    });
  }

  template <class T>
  void copy(T* shared, const T* global) {
    const auto misaligned = [](const void* at) { return reinterpret_cast<uintptr_t>(at) % sizeof(T) != 0; };
    if (misaligned(shared) || misaligned(global)) throw std::logic_error("misaligned copy");
    if (schedule_.copied_bytes) *schedule_.copied_bytes += static_cast<int64_t>(sizeof(T));
    land([=] { *shared = *global; });
  }
  void copy_or_zero(Float4* shared, const void* global, bool there) {
    if (there) return copy(shared, static_cast<const Float4*>(global));
    land([=] { *shared = Float4{}; });
  }
  void wait_copies() {
    commit_copies();
    wait_groups<0>();
  }
  void commit_copies() { copies_[static_cast<size_t>(current_)].emplace_back(); }
  template <int kYoungest>
  void wait_groups() {
    auto& groups = copies_[static_cast<size_t>(current_)];  // the last one is still open
    while (groups.size() > kYoungest + 1) {
      for (const auto& copy : groups.front()) copy();
      groups.pop_front();
    }
  }

 private:
  using CopyGroup = std::vector<std::function<void()>>;

  void land(std::function<void()> copy) {
    if (!schedule_.late_copies) return copy();
    copies_[static_cast<size_t>(current_)].back().push_back(std::move(copy));
  }
  State& state(int thread) { return states_[static_cast<size_t>(thread)]; }

  HostSchedule schedule_;
  std::vector<State> states_;
  std::vector<std::deque<CopyGroup>> copies_;  ///< of each thread
  std::vector<std::function<void(int)>> queue_;
  int current_ = 0;
};

/// Stands in for CudaQueue.
class HostQueue {
 public:
  explicit HostQueue(HostSchedule schedule = {}) : schedule_(schedule) {}

  template <class Body>
  void for_each(int64_t count, const Body& body) const {
    for (int64_t k = 0; k < count; ++k) body(k);
  }
  template <class Body>
  void blocks(int64_t count, const Body& body) const {
    constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
    std::vector<Float4> shared(body.shared_bytes() / sizeof(Float4));
    for (int64_t index = 0; index < count; ++index) {
      std::fill(shared.begin(), shared.end(), Float4{kNan, kNan, kNan, kNan});
      HostBlock<typename Body::Thread> block(Body::kThreads, schedule_);
      body.run(block, index, reinterpret_cast<float*>(shared.data()));
      block.sync();
    }
  }
  void upload(void* device, const void* host, size_t bytes) const {
    if (bytes) std::memcpy(device, host, bytes);
  }

 private:
  HostSchedule schedule_;
};

}  // namespace attn
