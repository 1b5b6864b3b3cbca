#include "harness/measure/roofs.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <optional>
#include <set>
#include <utility>

#include "harness/measure/environment.h"
#include "harness/measure/memory.h"
#include "harness/measure/roof_kernels.h"
#include "harness/measure/roof_levels.h"
#include "harness/measure/roof_trials.h"
#include "harness/run/blas.h"
#include "harness/run/device.h"

namespace attn {
namespace {

double now_s() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

/// Does something `repeats` times on one thread; returns how much it did.
using Work = std::function<double(size_t thread, int64_t repeats, float* sink)>;

RoofTrial run_trial(int threads, int64_t repeats, const Work& work) {
  constexpr size_t kApart = 64;  // floats: sinks share no cache line
  std::vector<float> sinks(static_cast<size_t>(threads) * kApart);
  double amount = 0, first_start = 1e300, last_end = 0, shortest_s = 1e300;
#pragma omp parallel num_threads(threads) reduction(+ : amount) reduction(max : last_end) \
    reduction(min : first_start, shortest_s)
  {
    const auto thread = static_cast<size_t>(omp_get_thread_num());
    float* const sink = &sinks[thread * kApart];
    if (repeats > 1) work(thread, 1, sink);  // fills the caches
#pragma omp barrier                          // waking the threads is no part of the work
    first_start = now_s();
    amount = work(thread, repeats, sink);
    last_end = now_s();
    shortest_s = last_end - first_start;
  }
  return {amount, last_end - first_start, shortest_s};
}

RoofAttempt on_threads(int threads, Work work) {
  return [threads, work = std::move(work)](int64_t repeats) { return run_trial(threads, repeats, work); };
}

/// Products of the BLAS, which deals them out itself, in memory like that of a campaign's operands.
RoofAttempt products(int threads) {
  constexpr int64_t kSize = 1024;
  const auto matrices =
      std::make_shared<DeviceBuffer>(device_api(Device::cpu), 3 * kSize * kSize * sizeof(float));
  float* const a = reinterpret_cast<float*>(matrices->data());
  std::fill_n(a, 3 * kSize * kSize, 1.0f);
  return [matrices, a, threads](int64_t repeats) {
    set_blas_threads(threads);
    const auto product = [a] { multiply(kSize, kSize, kSize, a, a + kSize * kSize, a + 2 * kSize * kSize); };
    product();  // wakes the threads
    const double start = now_s();
    for (int64_t k = 0; k < repeats; ++k) product();
    const double seconds = now_s() - start;
    return RoofTrial{2.0 * kSize * kSize * kSize * static_cast<double>(repeats), seconds, seconds};
  };
}

/// Memory with a part for each thread, touched by that thread; from where operands come, so on huge pages
/// too.
class Arena {
 public:
  Arena(int threads, size_t part_bytes)
      : part_bytes_(part_bytes), memory_(device_api(Device::cpu), static_cast<size_t>(threads) * part_bytes) {
    run_trial(threads, 1, [&](size_t thread, int64_t, float*) {
      std::memset(part(thread), 1, part_bytes_);
      return 0.0;
    });
  }
  std::byte* part(size_t thread) const { return memory_.data() + thread * part_bytes_; }

 private:
  size_t part_bytes_;
  DeviceBuffer memory_;
};

Work reads_of(const Arena& arena, size_t bytes) {
  return [&arena, bytes](size_t thread, int64_t repeats, float* sink) {
    return run_reads(arena.part(thread), bytes, repeats, sink);
  };
}

/// From one half of the part to the other.
Work copies_of(const Arena& arena, size_t bytes) {
  return [&arena, bytes](size_t thread, int64_t repeats, float*) {
    std::byte* const begin = arena.part(thread);
    for (int64_t repeat = 0; repeat < repeats; ++repeat) std::memcpy(begin + bytes / 2, begin, bytes / 2);
    return static_cast<double>(bytes) * static_cast<double>(repeats);
  };
}

size_t largest_part(const std::vector<RoofLevel>& levels) {
  int64_t bytes = 0;
  for (const RoofLevel& level : levels) bytes = std::max(bytes, level.bytes_of_thread);
  return static_cast<size_t>(bytes);
}

ThreadRoofs measure_with(int threads, const std::vector<RoofLevel>& levels) {
  const Arena arena(threads, largest_part(levels));
  Roof fma(on_threads(threads,
                      [](size_t, int64_t repeats, float* sink) { return run_multiply_adds(repeats, sink); }));
  Roof exp(on_threads(threads,
                      [](size_t, int64_t repeats, float* sink) { return run_exponentials(repeats, sink); }));
  std::optional<Roof> sgemm;
  if (blas_takes(threads)) sgemm.emplace(products(threads));
  std::vector<Roof> reads, copies;
  for (const RoofLevel& level : levels) {
    const auto bytes = static_cast<size_t>(level.bytes_of_thread);
    reads.emplace_back(on_threads(threads, reads_of(arena, bytes)));
    copies.emplace_back(on_threads(threads, copies_of(arena, bytes)));
  }
  std::vector<Roof*> all = {&fma, &exp};
  if (sgemm) all.push_back(&*sgemm);
  for (Roof& roof : reads) all.push_back(&roof);
  for (Roof& roof : copies) all.push_back(&roof);
  try_in_turns(all);
  ThreadRoofs roofs{fma.best(), exp.best(), sgemm ? sgemm->best() : 0, {}};
  for (size_t k = 0; k < levels.size(); ++k) {
    roofs.levels.push_back(
        {levels[k].name, static_cast<double>(levels[k].bytes), reads[k].best(), copies[k].best()});
  }
  return roofs;
}

/// The GPU is given back: this process measures nothing else on it.
std::optional<GpuRoofs> measure_gpu() {
  std::optional<GpuRoofs> roofs;
  try {
    roofs = measure_gpu_roofs(device_api(Device::cuda));
  } catch (const std::exception& error) {  // taken by another process, say: its rows then have no roof
    fmt::print(stderr, "the GPU's roofs are not measured: {}\n", error.what());
  }
  release_gpu();
  return roofs;
}

}  // namespace

Roofs measure_roofs(const std::vector<int>& threads, bool gpu) {
  std::set<int> counts(threads.begin(), threads.end());
  counts.insert({1, available_threads()});
  const std::vector<Cache> caches = topology().caches;
  Roofs roofs;
  roofs.target = simd_target();
  for (int count : counts) {
    roofs.by_threads[count] =
        measure_with(count, roof_levels(caches, machine_memory_bytes(), available_memory_bytes(), count));
  }
  if (gpu && device_missing(Device::cuda).empty()) roofs.gpu = measure_gpu();
  return roofs;
}

}  // namespace attn
