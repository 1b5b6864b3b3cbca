#pragma once
// Threads of a GPU as fibers of one host thread, in warps, beside operations that the hardware carries out by
// itself. One seed is one interleaving: which warp or operation goes next is drawn, either anew each time or
// by priorities that change now and then (Burckhardt et al., "A randomized scheduler with probabilistic
// guarantees of finding bugs", 2010), with operations among the warps or, copies in
// order of their issue, as late as can be. Waiting without
// end is found and told.

#include <ucontext.h>

#include <deque>
#include <exception>
#include <functional>
#include <memory>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

namespace attn {

/// What fibers wait for: notify() lets them look again.
struct HostEvent {
  std::vector<int> waiting;
};

class HostFibers {
 public:
  explicit HostFibers(uint64_t seed) : random_(seed), by_priority_(seed % 4 != 0), late_(seed % 4 == 1) {}
  HostFibers(const HostFibers&) = delete;
  HostFibers& operator=(const HostFibers&) = delete;

  /// A warp of 32 fibers, each body(lane).
  void add_warp(const std::function<void(int)>& body) {
    const int warp = static_cast<int>(warps_.size());
    warps_.push_back({{}, random_()});
    for (int lane = 0; lane < kLanes; ++lane) {
      fibers_.push_back(std::make_unique<Fiber>());
      Fiber& fiber = *fibers_.back();
      fiber.warp = warp;
      fiber.body = [body, lane] { body(lane); };
      fiber.stack = std::make_unique<char[]>(kStackBytes);
      getcontext(&fiber.context);
      fiber.context.uc_stack.ss_sp = fiber.stack.get();
      fiber.context.uc_stack.ss_size = kStackBytes;
      fiber.context.uc_link = nullptr;
      const auto self = reinterpret_cast<uintptr_t>(this);
      makecontext(&fiber.context, reinterpret_cast<void (*)()>(&HostFibers::enter), 2,
                  static_cast<unsigned>(self), static_cast<unsigned>(self >> 32));
      warps_.back().ready.push_back(static_cast<int>(fibers_.size()) - 1);
    }
  }
  /// Runs to the end of all fibers. Throws what a fiber or an operation throws, and where all wait.
  void run() {
    while (step()) {
    }
    std::string waits;
    int told = -1;  // a warp's first lane that waits speaks for all
    for (const auto& fiber : fibers_) {
      if (fiber->done || fiber->warp == told) continue;
      told = fiber->warp;
      waits += "\n  warp " + std::to_string(told) + ": " + fiber->what;
    }
    if (!waits.empty()) throw std::logic_error("deadlock" + waits);
  }

  /// Something that happens at a moment of the scheduler's choice.
  void later(std::function<void()> operation, bool is_copy = false) {
    operations_.push_back({std::move(operation), random_(), is_copy});
  }
  bool operations_left() const { return !operations_.empty(); }

  /// For the running fiber.
  int current() const { return current_; }
  template <class Ready>
  void wait(HostEvent& event, const Ready& ready, const std::function<std::string()>& what) {
    while (!ready()) {
      Fiber& fiber = *fibers_[static_cast<size_t>(current_)];
      fiber.what = what();
      event.waiting.push_back(current_);
      to_scheduler(fiber);
    }
  }
  void notify(HostEvent& event) {
    for (const int fiber : event.waiting) make_ready(fiber);
    event.waiting.clear();
  }
  /// Another warp may go first.
  void preempt() {
    if (random_() % 4 != 0) return;
    make_ready(current_);
    to_scheduler(*fibers_[static_cast<size_t>(current_)]);
  }
  uint64_t random() { return random_(); }

 private:
  static constexpr int kLanes = 32;
  static constexpr size_t kStackBytes = 128 << 10;
  struct Fiber {
    ucontext_t context;
    std::unique_ptr<char[]> stack;
    std::function<void()> body;
    std::string what;
    int warp = 0;
    bool done = false;
  };
  struct Warp {
    std::vector<int> ready;
    uint64_t priority;
  };
  struct Operation {
    std::function<void()> run;
    uint64_t priority;
    bool is_copy;
  };

  static void enter(unsigned low, unsigned high) {
    auto* self = reinterpret_cast<HostFibers*>(uintptr_t{high} << 32 | low);
    Fiber& fiber = *self->fibers_[static_cast<size_t>(self->current_)];
    try {
      fiber.body();
    } catch (...) {
      self->error_ = std::current_exception();
    }
    fiber.done = true;
    self->to_scheduler(fiber);
  }
  void to_scheduler(Fiber& fiber) { swapcontext(&fiber.context, &scheduler_); }
  void make_ready(int fiber) {
    warps_[static_cast<size_t>(fibers_[static_cast<size_t>(fiber)]->warp)].ready.push_back(fiber);
  }

  /// One warp, or one operation.
  bool step() {
    const size_t none = warps_.size() + operations_.size();
    size_t chosen = none, candidates = 0;
    if (late_) chosen = latest_allowed();
    for (size_t k = 0; k < none && !late_; ++k) {
      if (k < warps_.size() && warps_[k].ready.empty()) continue;
      ++candidates;
      const bool better =
          by_priority_ ? chosen == none || priority(k) > priority(chosen) : random_() % candidates == 0;
      if (better) chosen = k;
    }
    if (chosen == none) return false;
    if (random_() % 64 == 0) priority(chosen) = random_();
    if (chosen >= warps_.size()) {
      const auto at = operations_.begin() + static_cast<ptrdiff_t>(chosen - warps_.size());
      const auto operation = std::move(at->run);
      operations_.erase(at);
      operation();
      return true;
    }
    std::vector<int> lanes;
    std::swap(lanes, warps_[chosen].ready);
    for (const int lane : lanes) {
      current_ = lane;
      swapcontext(&scheduler_, &fibers_[static_cast<size_t>(lane)]->context);
      if (error_) std::rethrow_exception(error_);
    }
    return true;
  }
  /// A ready warp, else the oldest operation that is no copy, else the oldest copy.
  size_t latest_allowed() {
    const size_t none = warps_.size() + operations_.size();
    size_t chosen = none, copy = none;
    for (size_t k = 0; k < warps_.size(); ++k) {
      if (!warps_[k].ready.empty() && (chosen == none || priority(k) > priority(chosen))) chosen = k;
    }
    for (size_t k = warps_.size(); k < none && chosen == none; ++k) {
      if (!operations_[k - warps_.size()].is_copy) chosen = k;
      if (copy == none) copy = k;
    }
    return chosen == none ? copy : chosen;
  }
  uint64_t& priority(size_t k) {
    return k < warps_.size() ? warps_[k].priority : operations_[k - warps_.size()].priority;
  }

  std::mt19937_64 random_;
  bool by_priority_, late_;
  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Warp> warps_;
  std::vector<Operation> operations_;
  ucontext_t scheduler_{};
  std::exception_ptr error_;
  int current_ = -1;
};

}  // namespace attn
