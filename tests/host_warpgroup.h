#pragma once
// What warps and warpgroups of sm_90 do together, on the host: values from lane to lane, wgmma behind the
// threads' back, registers handed from one warpgroup to another.

#include <algorithm>
#include <array>
#include <deque>
#include <limits>
#include <map>

#include "tests/host_fibers.h"
#include "tests/host_shared.h"
#include "tests/host_wgmma.h"
#include "variants/common/gpu_tensor.cuh"

namespace attn {

/// The 32 lanes of a warp give a value each and get all of them.
class HostWarpExchange {
 public:
  void all(HostFibers& fibers, int lane, uint64_t value, uint64_t (&values)[32]) {
    const int64_t generation = generation_;
    uint64_t(&slot)[32] = slots_[generation % 2];
    slot[lane] = value;
    if (++arrived_ == 32) {
      arrived_ = 0;
      ++generation_;
      fibers.notify(event_);
    } else {
      fibers.wait(
          event_, [&] { return generation_ != generation; },
          [] { return std::string("the other lanes of its warp"); });
    }
    std::copy(slot, slot + 32, values);
  }

 private:
  uint64_t slots_[2][32] = {};
  int arrived_ = 0;
  int64_t generation_ = 0;
  HostEvent event_;
};

/// setmaxnreg: what a warp gives back another may take.
class HostRegisters {
 public:
  HostRegisters(HostFibers& fibers, int threads)
      : fibers_(fibers), at_entry_(65536 / threads / 8 * 8), of_(static_cast<size_t>(threads), at_entry_) {}
  void set(int count, bool more, int thread) {
    if (count % 8 != 0 || count < 24 || count > 256)
      throw std::logic_error("setmaxnreg: a multiple of 8 in 24 .. 256");
    int& own = of_[static_cast<size_t>(thread)];
    if (more ? count < own : count > own) throw std::logic_error("setmaxnreg: the wrong direction");
    if (more) {
      fibers_.wait(
          event_, [&] { return free_ >= count - own; },
          [count] { return "registers for setmaxnreg.inc " + std::to_string(count); });
    }
    free_ -= count - own;
    own = count;
    fibers_.notify(event_);
  }

 private:
  HostFibers& fibers_;
  int at_entry_;
  std::vector<int> of_;
  int free_ = 0;
  HostEvent event_;
};

/// wgmma.mma_async: [64, columns] (+)= A [64, 16] B [16, columns].
struct HostWgmma {
  int columns = 0;
  bool bf16 = true;
  bool a_in_registers = false;
  uint64_t a = 0, b = 0;  ///< descriptors
  bool a_transposed = false, b_transposed = false;
  bool accumulates = true;
  bool operator==(const HostWgmma&) const = default;
};

class HostWarpgroup {
 public:
  HostWarpgroup(HostFibers& fibers, HostShared& shared) : fibers_(fibers), shared_(shared) {}

  void fence(int thread) { threads_[index(thread)].fenced = true; }
  /// `sums`: the columns / 2 accumulators of the thread; until wait() lets them go they hold NaN.
  void multiply(const HostWgmma& what, float* sums, const uint32_t* a_registers, int thread) {
    fibers_.preempt();
    Thread& self = threads_[index(thread)];
    if (!self.fenced) throw std::logic_error("wgmma: no wgmma.fence before it");
    const size_t number = self.issued++;
    if (number == first_ + operations_.size()) begin(what);
    Operation& operation = operations_[number - first_];
    if (!(operation.what == what)) throw std::logic_error("wgmma: threads of a warpgroup differ");
    if (a_registers) std::copy(a_registers, a_registers + 4, operation.a[index(thread)].begin());
    operation.sums[index(thread)] = sums;
    Held& held = self.held[sums];
    if (held.values.empty()) {
      held.values.assign(sums, sums + what.columns / 2);
      std::fill(sums, sums + what.columns / 2, std::numeric_limits<float>::quiet_NaN());
    }
    if (held.values.size() != static_cast<size_t>(what.columns / 2))
      throw std::logic_error("wgmma: accumulators");
    held.last = number;
    if (++operation.threads == 128) {
      fibers_.later([this] { execute(); });
    }
  }
  void commit(int thread) {
    Thread& self = threads_[index(thread)];
    self.groups.push_back(self.issued);
  }
  void wait(int youngest, int thread) {
    Thread& self = threads_[index(thread)];
    const auto groups = static_cast<int>(self.groups.size());
    self.fenced = false;
    if (groups <= youngest) return;
    const size_t end = self.groups[static_cast<size_t>(groups - 1 - youngest)];
    fibers_.wait(
        event_, [&] { return executed_ >= end; }, [] { return std::string("wgmma.wait_group"); });
    for (; retired_ < end; ++retired_) shared_.end_read(operations_[retired_ - first_].reading);
    for (auto held = self.held.begin(); held != self.held.end();) {
      if (held->second.last >= end) {
        ++held;
        continue;
      }
      std::copy(held->second.values.begin(), held->second.values.end(), held->first);
      held = self.held.erase(held);
    }
    while (!operations_.empty() && first_ < retired_ && operations_.front().executed) {
      operations_.pop_front();
      ++first_;
    }
  }
  void check_end() const {
    for (const Thread& thread : threads_) {
      if (!thread.held.empty()) throw std::logic_error("wgmma: never waited for");
    }
  }

 private:
  struct Operation {
    HostWgmma what;
    std::array<float*, 128> sums{};
    std::array<std::array<uint32_t, 4>, 128> a{};
    HostShared::Reading reading;
    int threads = 0;
    bool executed = false;
  };
  struct Held {
    std::vector<float> values;
    size_t last = 0;
  };
  struct Thread {
    size_t issued = 0;
    std::vector<size_t> groups;  ///< operations up to the end of each
    std::map<float*, Held> held;
    bool fenced = false;
  };
  static size_t index(int thread) { return static_cast<size_t>(thread); }

  void begin(const HostWgmma& what) {
    if (what.columns % 8 != 0 || what.columns < 8 || what.columns > 256) throw std::logic_error("wgmma: n");
    operations_.emplace_back();
    Operation& operation = operations_.back();
    operation.what = what;
    std::vector<uint32_t> units;
    const auto add = [&](uint64_t bits, bool transposed, int rows) {
      const HostDescriptor descriptor(bits);
      for (int mn = 0; mn < rows; ++mn) {
        for (int k = 0; k < 16; ++k) {
          const uint32_t place = descriptor.place(transposed, mn, k);
          shared_.at(place, 2);
          units.push_back((place - shared_.first()) / 16);
        }
      }
    };
    if (!what.a_in_registers) add(what.a, what.a_transposed, 64);
    add(what.b, what.b_transposed, what.columns);
    std::sort(units.begin(), units.end());
    units.erase(std::unique(units.begin(), units.end()), units.end());
    operation.reading = shared_.begin_read(units);
  }

  float number(uint16_t bits, bool bf16) const { return bf16 ? to_float(Bf16{bits}) : to_float(F16{bits}); }
  std::vector<float> operand(uint64_t bits, bool transposed, int rows, bool bf16) {
    const HostDescriptor descriptor(bits);
    std::vector<float> values(static_cast<size_t>(rows) * 16);
    for (int mn = 0; mn < rows; ++mn) {
      for (int k = 0; k < 16; ++k) {
        uint16_t element;
        std::memcpy(&element, shared_.at(descriptor.place(transposed, mn, k), 2), 2);
        values[static_cast<size_t>(k * rows + mn)] = number(element, bf16);
      }
    }
    return values;
  }

  /// The oldest that has not been executed.
  void execute() {
    Operation& operation = operations_[executed_ - first_];
    const HostWgmma& what = operation.what;
    const auto columns = static_cast<size_t>(what.columns);
    std::vector<float> a(64 * 16);  // [k, row]
    if (what.a_in_registers) {
      for (int thread = 0; thread < 128; ++thread) {
        for (int e = 0; e < 8; ++e) {
          const Cell at = wgmma_a(thread / 32, thread % 32, e);
          const uint32_t pair = operation.a[index(thread)][index(e / 2)];
          a[static_cast<size_t>(at.column * 64 + at.row)] =
              number(static_cast<uint16_t>(pair >> (16 * (e % 2))), what.bf16);
        }
      }
    } else {
      a = operand(what.a, what.a_transposed, 64, what.bf16);
    }
    const std::vector<float> b = operand(what.b, what.b_transposed, what.columns, what.bf16);
    std::vector<float> products(64 * columns);
    for (size_t k = 0; k < 16; ++k) {
      for (size_t row = 0; row < 64; ++row) {
        for (size_t n = 0; n < columns; ++n)
          products[row * columns + n] += a[k * 64 + row] * b[k * columns + n];
      }
    }
    for (int thread = 0; thread < 128; ++thread) {
      std::vector<float>& sums = threads_[index(thread)].held.at(operation.sums[index(thread)]).values;
      for (int r = 0; r < what.columns / 2; ++r) {
        const Cell at = wgmma_d(thread / 32, thread % 32, r);
        const float product =
            products[static_cast<size_t>(at.row) * columns + static_cast<size_t>(at.column)];
        sums[index(r)] = what.accumulates ? sums[index(r)] + product : product;
      }
    }
    operation.executed = true;
    ++executed_;
    fibers_.notify(event_);
  }

  HostFibers& fibers_;
  HostShared& shared_;
  std::array<Thread, 128> threads_;
  std::deque<Operation> operations_;  ///< the first has number first_
  size_t first_ = 0, executed_ = 0, retired_ = 0;
  HostEvent event_;
};

}  // namespace attn
