// Roofs: FMA peak and copy bandwidth.
// FMA: 12 independent accumulators per thread, enough for 2 units of latency 4 to 5 (10 chains), few enough
// for 16 registers. The multiplier is just below 1 and the addend tiny, so values stay finite and normal.
// Copy: each thread copies its own part of an array of 64 MiB, first touched by that thread; 2 bytes of
// traffic are counted per byte copied, as STREAM does (write-allocate traffic is not counted).

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "harness/measure/roofs.cpp"
#include <hwy/foreach_target.h>
// after foreach_target
#include <hwy/highway.h>

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

/// Runs `steps` rounds of 12 multiply-adds; returns FLOPs done, and a value that depends on all of them in
/// `sink`.
HWY_ATTR double multiply_add_rounds(int64_t steps, float* sink) {
  const hn::ScalableTag<float> d;
  const auto factor = hn::Set(d, 0.999999f), addend = hn::Set(d, 1e-6f);
  auto a0 = hn::Iota(d, 0.f), a1 = hn::Iota(d, 1.f), a2 = hn::Iota(d, 2.f), a3 = hn::Iota(d, 3.f);
  auto a4 = hn::Iota(d, 4.f), a5 = hn::Iota(d, 5.f), a6 = hn::Iota(d, 6.f), a7 = hn::Iota(d, 7.f);
  auto a8 = hn::Iota(d, 8.f), a9 = hn::Iota(d, 9.f), a10 = hn::Iota(d, 10.f), a11 = hn::Iota(d, 11.f);
  for (int64_t step = 0; step < steps; ++step) {
    a0 = hn::MulAdd(a0, factor, addend);
    a1 = hn::MulAdd(a1, factor, addend);
    a2 = hn::MulAdd(a2, factor, addend);
    a3 = hn::MulAdd(a3, factor, addend);
    a4 = hn::MulAdd(a4, factor, addend);
    a5 = hn::MulAdd(a5, factor, addend);
    a6 = hn::MulAdd(a6, factor, addend);
    a7 = hn::MulAdd(a7, factor, addend);
    a8 = hn::MulAdd(a8, factor, addend);
    a9 = hn::MulAdd(a9, factor, addend);
    a10 = hn::MulAdd(a10, factor, addend);
    a11 = hn::MulAdd(a11, factor, addend);
  }
  const auto low = hn::Add(hn::Add(hn::Add(a0, a1), hn::Add(a2, a3)), hn::Add(a4, a5));
  const auto high = hn::Add(hn::Add(hn::Add(a6, a7), hn::Add(a8, a9)), hn::Add(a10, a11));
  *sink = hn::GetLane(hn::SumOfLanes(d, hn::Add(low, high)));
  return 2.0 * 12 * static_cast<double>(hn::Lanes(d)) * static_cast<double>(steps);
}

const char* target_name() { return hwy::TargetName(HWY_TARGET); }

}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "harness/measure/roofs.h"

namespace attn {
namespace {

HWY_EXPORT(multiply_add_rounds);
HWY_EXPORT(target_name);

constexpr int kTrials = 12;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// FLOP/s of one trial of `steps` rounds on every thread.
double fma_trial(int threads, int64_t steps) {
  std::vector<float> sinks(static_cast<size_t>(threads) * 64);  // a cache line or more apart
  double flops = 0;
  const auto start = std::chrono::steady_clock::now();
#pragma omp parallel num_threads(threads) reduction(+ : flops)
  flops += HWY_DYNAMIC_DISPATCH(multiply_add_rounds)(steps,
                                                     &sinks[static_cast<size_t>(omp_get_thread_num()) * 64]);
  return flops / seconds_since(start);
}

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

}  // namespace

double fma_peak_flops_per_s(int threads) {
  constexpr int64_t kSteps = 2'000'000;  // about 10 ms
  double best = 0;
  for (int trial = 0; trial < kTrials; ++trial) best = std::max(best, fma_trial(threads, kSteps));
  return best;
}

double copy_bandwidth_bytes_per_s(int threads) {
  constexpr size_t kBytes = size_t{64} << 20;
  const std::unique_ptr<std::byte[], Free> from(static_cast<std::byte*>(std::malloc(kBytes)));
  const std::unique_ptr<std::byte[], Free> to(static_cast<std::byte*>(std::malloc(kBytes)));
  if (!from || !to) throw std::bad_alloc();
  const size_t part = kBytes / static_cast<size_t>(threads);
  double best = 0;
  for (int trial = -1; trial < kTrials; ++trial) {  // trial -1 touches the pages
    const auto start = std::chrono::steady_clock::now();
#pragma omp parallel num_threads(threads)
    {
      const size_t begin = static_cast<size_t>(omp_get_thread_num()) * part;
      if (trial < 0) {
        std::memset(from.get() + begin, 1, part);
        std::memset(to.get() + begin, 2, part);
      } else {
        std::memcpy(to.get() + begin, from.get() + begin, part);
      }
    }
    const double bytes = 2.0 * static_cast<double>(part) * threads;
    if (trial >= 0) best = std::max(best, bytes / seconds_since(start));
  }
  return best;
}

std::string fma_target() {
  fma_trial(1, 1);  // the first dispatch chooses
  return HWY_DYNAMIC_DISPATCH(target_name)();
}

}  // namespace attn
#endif  // HWY_ONCE
