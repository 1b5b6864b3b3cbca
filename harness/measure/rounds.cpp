#include "harness/measure/rounds.h"

#include <benchmark/benchmark.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <exception>
#include <map>
#include <random>
#include <stdexcept>

#include "harness/analysis/processes.h"
#include "harness/measure/clock.h"

namespace attn {
namespace {

/// The rounds keep every sample themselves.
class SilentReporter final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>&) override {}
};

class Case {
 public:
  Case(const TimedCase& source, const RoundOptions& options)
      : source_(source), budget_s_(options.budget_s), warm_up_s_(options.warm_up_s) {}

  /// Warms up and finds the calls that make a sample long enough.
  void calibrate() {
    // Cold: caches, thread team, first touch. A call this long needs no second one to be warm.
    long_call_ = timed(1) >= kLongCall_s;
    if (long_call_) return;
    warm_up();
    for (int64_t calls = 1;;) {
      // The shorter of two: an interruption must not pass for a long call.
      const double seconds = std::min(timed(calls), timed(calls));
      series_.calls_per_sample = calls;
      const double shortest_s = shortest_sample_s(source_.clock_step_s);
      if (seconds >= shortest_s) return;
      const double growth = 1.2 * shortest_s / std::max(seconds, source_.clock_step_s);
      calls = static_cast<int64_t>(static_cast<double>(calls) * std::clamp(growth, 1.5, 100.0)) + 1;
    }
  }

  void register_benchmark(size_t index) {
    filter_ = "case" + std::to_string(index) + ":";
    // One iteration of Google Benchmark is one sample.
    benchmark::RegisterBenchmark((filter_ + source_.name).c_str(),
                                 [this](benchmark::State& state) {
                                   for (auto _ : state) state.SetIterationTime(take_sample());
                                 })
        ->UseManualTime()
        ->Iterations(1);
  }

  void run(int64_t round) {
    round_ = round;
    benchmark::RunSpecifiedBenchmarks(&reporter_, "^" + filter_);
    if (error_) std::rethrow_exception(error_);
  }

  /// `baseline`: null where the case's own median is the answer.
  void judge(double target, const TimedSeries* baseline) {
    // At numbers of samples that grow by a twentieth: a look costs more than a short sample, and an interval
    // looked at less often stops less often by chance.
    if (series_.samples.size() >= next_look_) {
      next_look_ = series_.samples.size() + 1 + series_.samples.size() / 20;
      const bool known = within_target(
          {baseline ? ratios_by_round(series_.samples, baseline->samples) : series_.times_s()}, target);
      series_.stop = !known ? Stop::budget : baseline ? Stop::ratio : Stop::median;
    }
    finished_ = series_.stop != Stop::budget || out_of_budget();
  }

  bool finished() const { return finished_; }
  bool out_of_budget() const { return spent_s_ >= budget_s_; }
  TimedSeries& series() { return series_; }

 private:
  static constexpr double kLongCall_s = 0.1;

  void warm_up() {
    for (double spent = 0; !long_call_ && spent < warm_up_s_;) spent += timed(series_.calls_per_sample);
  }

  double timed(int64_t calls) {
    const double seconds = source_.time_s(calls);
    if (seconds < 0)
      throw std::runtime_error(fmt::format("the clock went back by {} s in a sample", -seconds));
    spent_s_ += seconds;
    return seconds;
  }

  double take_sample() {
    try {
      warm_up();
      const double per_call = timed(series_.calls_per_sample) / static_cast<double>(series_.calls_per_sample);
      ClockReading clock = source_.clock();
      series_.samples.push_back({round_, per_call, clock.hz, std::move(clock.throttled)});
      return per_call;
    } catch (...) {
      error_ = std::current_exception();
      return 0;
    }
  }

  const TimedCase& source_;
  double budget_s_;
  double warm_up_s_;
  double spent_s_ = 0;
  bool long_call_ = false;
  bool finished_ = false;
  int64_t round_ = 0;
  size_t next_look_ = 1;
  std::string filter_;
  SilentReporter reporter_;
  std::exception_ptr error_;
  TimedSeries series_;
};

/// The registered closures point at the cases: none may outlive them.
struct Registration {
  ~Registration() { benchmark::ClearRegisteredBenchmarks(); }
};

}  // namespace

std::string to_text(Stop stop) {
  switch (stop) {
    case Stop::budget:
      return "budget";
    case Stop::ratio:
      return "ratio";
    case Stop::median:
      return "median";
  }
  return "?";
}

std::vector<double> TimedSeries::times_s() const {
  std::vector<double> times;
  for (const TimedSample& sample : samples) times.push_back(sample.time_s);
  return times;
}

double shortest_sample_s(double clock_step_s) { return std::max(1000 * clock_step_s, 200e-6); }

std::vector<TimedSeries> time_rounds(const std::vector<TimedCase>& sources, const RoundOptions& options) {
  std::vector<Case> cases;
  cases.reserve(sources.size());
  const Registration registration;
  for (const TimedCase& source : sources) cases.emplace_back(source, options);
  for (size_t k = 0; k < cases.size(); ++k) {
    options.announce(k);
    cases[k].calibrate();
    cases[k].register_benchmark(k);
  }
  std::mt19937_64 random(options.seed);
  for (int64_t round = 0;; ++round) {
    std::vector<size_t> order;
    for (size_t k = 0; k < cases.size(); ++k) {
      if (!cases[k].finished()) order.push_back(k);
    }
    if (order.empty()) break;
    Case* const base = options.baseline ? &cases[*options.baseline] : nullptr;
    if (base && base->finished() && !base->out_of_budget()) order.push_back(*options.baseline);
    std::shuffle(order.begin(), order.end(), random);
    for (size_t k : order) {
      options.announce(k);
      cases[k].run(round);
    }
    for (size_t k : order) {
      const bool paired = base && base != &cases[k] && !base->out_of_budget();
      cases[k].judge(options.target, paired ? &base->series() : nullptr);
    }
  }
  std::vector<TimedSeries> results;
  for (Case& timed : cases) results.push_back(std::move(timed.series()));
  return results;
}

std::vector<double> ratios_by_round(const std::vector<TimedSample>& series,
                                    const std::vector<TimedSample>& baseline) {
  std::map<int64_t, double> by_round;
  for (const TimedSample& sample : baseline) by_round[sample.round] = sample.time_s;
  std::vector<double> ratios;
  for (const TimedSample& sample : series) {
    const auto found = by_round.find(sample.round);
    if (found != by_round.end()) ratios.push_back(sample.time_s / found->second);
  }
  return ratios;
}

}  // namespace attn
