#include "harness/campaign/point_timing.h"

#include <algorithm>
#include <cmath>

#include "harness/measure/host_load.h"

namespace attn {
namespace {

/// Longer than idle threads of any runtime spin: GNU's OpenMP up to 10 ms, TBB and ONNX Runtime less.
constexpr double kWarmUp_s = 0.03;
/// Untimed calls before the rounds: an idle GPU's clock is low, and takes so long to rise.
constexpr double kGpuWarmUp_s = 0.25;
/// Of the budget, for the pass on hot caches, which no ratio waits for.
constexpr double kHotShare = 0.25;

RoundOptions round_options(const Job& job, const std::vector<PointEntry*>& timed) {
  // A process is one of several: their intervals together are narrower by the root of their number.
  RoundOptions options{.target = job.target * std::sqrt(job.processes),
                       .budget_s = job.budget_s / job.processes,
                       .seed = job.seed + static_cast<uint64_t>(job.process)};
  for (size_t k = 0; k < timed.size(); ++k) {
    if (timed[k]->row.variant == job.baseline) options.baseline = k;
    if (timed[k]->variant->info().own_threads) options.warm_up_s = kWarmUp_s;
  }
  return options;
}

void wake_gpu(PointEntry& entry) {
  double spent_s = 0;
  for (int64_t calls = 1; spent_s < kGpuWarmUp_s; calls = std::min<int64_t>(2 * calls, 1024)) {
    spent_s += entry.time_s(calls, CacheState::cold);
  }
}

std::vector<TimedSeries> time_pass(Board& board, const std::vector<PointEntry*>& timed, CacheState cache,
                                   RoundOptions options, PointEntry*& at_work) {
  std::vector<TimedCase> cases;
  for (PointEntry* entry : timed) cases.push_back(entry->timed(cache));
  options.announce = [&](size_t which) {
    at_work = timed[which];
    board.announce(at_work->index, Step::time);
  };
  return time_rounds(cases, options);
}

/// What the samples amount to is worked out where those of all processes are (pool.h).
void record(PointEntry& entry, const TimedSeries& series, const std::string& cache) {
  int64_t number = 0;
  for (const TimedSample& sample : series.samples) {
    entry.samples.push_back({.point = entry.row.point,
                             .variant = entry.row.variant,
                             .round = sample.round,
                             .sample = number++,
                             .time_s = sample.time_s,
                             .clock_hz = sample.clock_hz,
                             .cache = cache,
                             .throttled = sample.throttled});
  }
}

/// The rounds are common to the variants, and so is what disturbed them.
void record_host(const std::vector<PointEntry*>& timed, const HostLoad& before) {
  const HostLoad after = read_host_load();
  for (PointEntry* entry : timed) {
    entry->row.steal_fraction = steal_fraction(before, after);
    entry->row.cpu_pressure = cpu_pressure(before, after);
  }
}

}  // namespace

void time_entries(const Job& job, Board& board, const std::vector<PointEntry*>& timed, PointEntry*& at_work) {
  std::vector<PointEntry*> on_gpu;
  for (PointEntry* entry : timed) {
    if (entry->on_gpu()) on_gpu.push_back(entry);
  }
  const HostLoad before = read_host_load();
  if (!on_gpu.empty()) {
    at_work = on_gpu.front();
    board.announce(at_work->index, Step::warm_up);
    wake_gpu(*at_work);
  }
  const std::vector<TimedSeries> series =
      time_pass(board, timed, CacheState::cold, round_options(job, timed), at_work);
  std::vector<TimedSeries> hot_series;
  if (!on_gpu.empty()) {
    RoundOptions options = round_options(job, on_gpu);
    options.baseline.reset();
    options.budget_s *= kHotShare;
    hot_series = time_pass(board, on_gpu, CacheState::hot, options, at_work);
  }
  for (size_t k = 0; k < timed.size(); ++k) {
    timed[k]->row.stop = to_text(series[k].stop);
    record(*timed[k], series[k], timed[k]->row.cache);
  }
  for (size_t k = 0; k < on_gpu.size(); ++k) record(*on_gpu[k], hot_series[k], kHotSamples);
  record_host(timed, before);
}

}  // namespace attn
