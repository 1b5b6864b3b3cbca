#include "harness/campaign/point_entry.h"

#include <chrono>

#include "harness/measure/nvml.h"

namespace attn {

void PointEntry::call(Binding& bound) {
  const auto start = std::chrono::steady_clock::now();
  bound.run();
  bound.synchronize();
  variant_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double PointEntry::time_s(int64_t calls, CacheState cache) {
  const double seconds = binding->time_s(calls, cache, [this] {
    if (on_gpu()) clock = gpu_monitor().clock();
  });
  variant_s += seconds;
  return seconds;
}

TimedCase PointEntry::timed(CacheState cache) {
  TimedCase timed{row.variant, [this, cache](int64_t calls) { return time_s(calls, cache); }};
  if (!on_gpu()) return timed;
  timed.clock_step_s = api().clock_step_s().value_or(timed.clock_step_s);
  timed.clock = [this] { return clock; };
  return timed;
}

void PointEntry::finish(Status status, std::string reason) {
  row.status = status;
  row.reason = std::move(reason);
  finished = true;
  binding.reset();
  if (status == Status::ok) return;
  row.stop.clear();
  row.cache.clear();
  row.operand_sets.reset();
  row.steal_fraction.reset();
  row.cpu_pressure.reset();
  samples.clear();
}

void PointEntry::guard(const std::function<void()>& work) {
  try {
    work();
  } catch (const std::bad_alloc& error) {
    finish(Status::out_of_memory, error.what());
  } catch (const CannotCapture& error) {
    finish(Status::unsupported, error.what());
  } catch (const std::exception& error) {
    finish(Status::crashed, std::string("exception: ") + error.what());
  } catch (...) {
    finish(Status::crashed, "exception of an unknown type");
  }
}

}  // namespace attn
