#include "harness/campaign/point.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <memory>

#include "harness/campaign/row.h"
#include "harness/forecast/bytes.h"
#include "harness/measure/host_load.h"
#include "harness/measure/memory.h"
#include "harness/measure/rounds.h"
#include "harness/measure/thread_state.h"
#include "harness/oracle/oracle.h"
#include "harness/registry.h"
#include "harness/run/binding.h"

namespace attn {
namespace {

constexpr const char* kMemoryMethod =
    "operands: sizes of inputs and outputs; planned: booked by plan(); peak: taken from the workspace; "
    "process: VmHWM "
    "after a reset through clear_refs, less what was resident before binding";

/// Longer than idle threads of any runtime spin: GNU's OpenMP up to 10 ms, TBB and ONNX Runtime less.
constexpr double kWarmUp_s = 0.03;

/// Of the oracle's work: the first process checks a variant, the others that they time the same.
constexpr int64_t kLaterShare = 8;

/// A variant at this point: its row, and what it is bound to while it may still be timed.
struct Entry {
  int32_t index;  ///< in the job
  const Variant* variant;
  ResultRow row;
  size_t bytes = 0;  ///< predicted
  std::unique_ptr<Binding> binding;
  std::vector<SampleRow> samples;
  double variant_s = 0;   ///< in its own calls
  bool finished = false;  ///< has a status already
  bool emitted = false;

  /// One call, to its end.
  void call(Binding& bound) {
    const auto start = std::chrono::steady_clock::now();
    bound.run();
    bound.synchronize();
    variant_s += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  double time_s(int64_t calls) {
    const double seconds = binding->time_s(calls);
    variant_s += seconds;
    return seconds;
  }

  void finish(Status status, std::string reason) {
    row.status = status;
    row.reason = std::move(reason);
    finished = true;
    binding.reset();
    if (status != Status::ok) drop_times();
  }

 private:
  void drop_times() {
    row.stop.clear();
    row.steal_fraction.reset();
    row.cpu_pressure.reset();
    samples.clear();
  }
};

/// Runs `work`; what it throws becomes the entry's status.
template <class Work>
void guard(Entry& entry, Work work) {
  try {
    work();
  } catch (const std::bad_alloc& error) {
    entry.finish(Status::out_of_memory, error.what());
  } catch (const std::exception& error) {
    entry.finish(Status::crashed, std::string("exception: ") + error.what());
  } catch (...) {
    entry.finish(Status::crashed, "exception of an unknown type");
  }
}

class PointRun {
 public:
  PointRun(const Job& job, Board& board, const std::function<void(const Outcome&)>& emit)
      : job_(job),
        board_(board),
        emit_(emit),
        problem_(Problem::parse(job.problem)),
        thread_state_(job.threads) {
    for (size_t k = 0; k < job.variants.size(); ++k) {
      const Variant& variant = find_variant(job.variants[k]);
      entries_.push_back({.index = static_cast<int32_t>(k),
                          .variant = &variant,
                          .row = describe_row(job, problem_, variant)});
    }
  }

  void run() {
    for (Entry& entry : entries_) guard(entry, [&] { admit(entry); });
    emit_finished();
    if (std::all_of(entries_.begin(), entries_.end(), [](const Entry& entry) { return entry.finished; }))
      return;
    board_.announce(Board::kNoVariant, Step::inputs);
    inputs_ = make_inputs(problem_, job_.fill, job_.seed);
    board_.announce(Board::kNoVariant, Step::oracle);
    truth_ = solve(0);
    for (const Entry& entry : entries_) {
      const double rounding = entry.variant->info().operand_rounding;
      if (rounding > 0 && !entry.finished) rounded_truths_[rounding] = solve(rounding);
    }
    for (const std::vector<Entry*>& group : groups()) {
      run_group(group);
      emit_finished();
    }
  }

 private:
  /// Supported, and small enough? Fills in the declared costs.
  void admit(Entry& entry) {
    board_.announce(entry.index, Step::bind);
    if (const Support support = support_of(*entry.variant, problem_); !support) {
      return entry.finish(Status::unsupported, support.reason);
    }
    const Cost cost = cost_of(*entry.variant, problem_);
    entry.row.flops_executed = cost.flops_executed;
    entry.row.bytes_moved_model = cost.bytes_moved;
    entry.row.complexity_time = cost.time_order;
    entry.row.complexity_memory = cost.memory_order;
    entry.row.memory_operands_bytes = static_cast<int64_t>(operand_bytes(problem_));
    if (entry.variant->info().books_scratch) {
      entry.row.memory_workspace_planned_bytes =
          static_cast<int64_t>(planned_workspace_bytes(*entry.variant, problem_, job_.threads));
    }
    if (const auto growth = process_growth_bytes(*entry.variant, problem_, job_.threads)) {
      entry.row.memory_process_predicted_bytes = static_cast<int64_t>(*growth);
    }
    entry.row.memory_method = "planned: booked by plan(); operands: sizes of inputs and outputs";
    entry.bytes = variant_bytes(*entry.variant, problem_, job_.threads);
    const size_t needed = shared_bytes(problem_) + entry.bytes;
    if (needed > job_.memory_limit_bytes) {
      return entry.finish(
          Status::out_of_memory,
          fmt::format("predicted {} bytes, the limit is {}: not attempted", needed, job_.memory_limit_bytes));
    }
    entry.variant->load();
    thread_state_.restore();  // loading a library may change the mode (-ffast-math)
  }

  void emit_finished() {
    for (Entry& entry : entries_) {
      if (entry.finished && !entry.emitted) emit_({entry.row, entry.samples, entry.variant_s});
      entry.emitted = entry.finished;
    }
  }

  /// Variants that fit into memory together, in order; usually one group. Only those in the baseline's group
  /// get a ratio: without common rounds there is none.
  std::vector<std::vector<Entry*>> groups() {
    const size_t room = job_.memory_limit_bytes - std::min(job_.memory_limit_bytes, shared_bytes(problem_));
    std::vector<std::vector<Entry*>> groups;
    size_t used = 0;
    for (Entry& entry : entries_) {
      if (entry.finished) continue;
      if (groups.empty() || used + entry.bytes > room) {
        groups.emplace_back();
        used = 0;
      }
      groups.back().push_back(&entry);
      used += entry.bytes;
    }
    return groups;
  }

  void run_group(const std::vector<Entry*>& group) {
    for (Entry* entry : group) guard(*entry, [&] { check(*entry); });
    std::vector<Entry*> timed;
    for (Entry* entry : group) {
      if (!entry->finished) timed.push_back(entry);
    }
    if (!timed.empty()) time_group(timed);
    for (Entry* entry : timed) {
      if (!entry->finished) guard(*entry, [&] { verify(*entry); });
      entry->binding.reset();
    }
  }

  void check(Entry& entry) {
    const bool first_process = job_.process == 0;
    if (first_process) check_guarded(entry);
    if (entry.finished) return;
    board_.announce(entry.index, Step::bind);
    PeakProbe probe;
    entry.binding =
        std::make_unique<Binding>(*entry.variant, problem_, inputs_, BindingOptions{.threads = job_.threads});
    probe.arm();
    board_.announce(entry.index, Step::check);
    entry.call(*entry.binding);
    const bool on_cpu = entry.variant->info().device == Device::cpu;
    if (on_cpu) entry.row.memory_process_peak_bytes = probe.growth_bytes();
    if (entry.variant->info().books_scratch) {
      const Footprint footprint = entry.binding->footprint();
      entry.row.memory_workspace_peak_bytes = static_cast<int64_t>(footprint.workspace_peak);
    }
    entry.row.memory_method = kMemoryMethod;
    const Outputs<float> first = entry.binding->outputs();
    judge(entry, first);
    if (entry.finished || !first_process) return;
    entry.binding->poison_outputs();
    entry.call(*entry.binding);
    entry.row.deterministic = same_bits(first, entry.binding->outputs()) ? "yes" : "no";
  }

  /// Outputs and scratch poisoned and between guard bytes, apart from the binding that is timed: guards would
  /// move its operands.
  void check_guarded(Entry& entry) {
    board_.announce(entry.index, Step::check);
    Binding binding(*entry.variant, problem_, inputs_, {.threads = job_.threads, .guarded = true});
    entry.call(binding);
    const std::vector<std::string> overruns = binding.overruns();
    if (!overruns.empty()) {
      return entry.finish(Status::disagrees, fmt::format("wrote beyond {}", fmt::join(overruns, ", ")));
    }
    judge(entry, binding.outputs());
    if (!entry.finished) judge_manners(entry);
  }

  /// A library with threads of its own may set them as it likes; whatever it leaves behind is put back.
  void judge_manners(Entry& entry) {
    const std::string changed = thread_state_.restore();
    if (changed.empty() || entry.variant->info().own_threads) return;
    entry.finish(Status::disagrees, "changes " + changed);
  }

  Truth solve(double operand_rounding) const {
    TruthOptions options{.threads = job_.threads, .seed = job_.seed + static_cast<uint64_t>(job_.process)};
    if (job_.process > 0) options.max_pairs /= kLaterShare;  // of other rows than the first process knows
    options.operand_rounding = operand_rounding;
    return make_truth(problem_, inputs_, options);
  }
  const Truth& truth_of(const Variant& variant) const {
    const double rounding = variant.info().operand_rounding;
    return rounding == 0 ? truth_ : rounded_truths_.at(rounding);
  }

  void judge(Entry& entry, const Outputs<float>& outputs) {
    const Verdict verdict = compare(problem_, truth_of(*entry.variant), outputs);
    entry.row.error_rel_l2 = verdict.rel_l2;
    entry.row.error_max_abs = verdict.max_abs;
    entry.row.error_bound = verdict.worst;
    if (!verdict.ok) entry.finish(Status::disagrees, verdict.reason);
  }

  void time_group(const std::vector<Entry*>& timed) {
    std::vector<TimedCase> cases;
    // A process is one of several: their intervals together are narrower by the root of their number.
    RoundOptions options{.target = job_.target * std::sqrt(job_.processes),
                         .budget_s = job_.budget_s / job_.processes,
                         .seed = job_.seed + static_cast<uint64_t>(job_.process)};
    for (Entry* entry : timed) {
      if (entry->row.variant == job_.baseline) options.baseline = cases.size();
      if (entry->variant->info().own_threads) options.warm_up_s = kWarmUp_s;
      cases.push_back({entry->row.variant, [entry](int64_t calls) { return entry->time_s(calls); }});
    }
    size_t at_work = 0;
    options.announce = [&](size_t which) {
      at_work = which;
      board_.announce(timed[which]->index, Step::time);
    };
    const HostLoad before = read_host_load();
    try {
      const std::vector<TimedSeries> series = time_rounds(cases, options);
      for (size_t k = 0; k < timed.size(); ++k) record(*timed[k], series[k]);
      record_host(timed, before);
    } catch (...) {  // the variant at work is lost, the others start over
      guard(*timed[at_work], [] { throw; });
      std::vector<Entry*> others;
      for (Entry* entry : timed) {
        if (!entry->finished) others.push_back(entry);
      }
      if (!others.empty()) time_group(others);
    }
  }

  /// What the samples amount to is worked out where those of all processes are (pool.h).
  void record(Entry& entry, const TimedSeries& series) const {
    entry.row.stop = to_text(series.stop);
    int64_t number = 0;
    for (const TimedSample& sample : series.samples) {
      entry.samples.push_back({.point = job_.point,
                               .variant = entry.row.variant,
                               .round = sample.round,
                               .sample = number++,
                               .time_s = sample.time_s,
                               .clock_hz = sample.clock_hz});
    }
  }

  /// The rounds are common to the variants, and so is what disturbed them.
  static void record_host(const std::vector<Entry*>& timed, const HostLoad& before) {
    const HostLoad after = read_host_load();
    for (Entry* entry : timed) {
      entry->row.steal_fraction = steal_fraction(before, after);
      entry->row.cpu_pressure = cpu_pressure(before, after);
    }
  }

  /// A run after thousands of timed ones: nothing may have gone stale or been skipped.
  void verify(Entry& entry) {
    board_.announce(entry.index, Step::verify);
    entry.binding->poison_outputs();
    entry.call(*entry.binding);
    const Verdict verdict = compare(problem_, truth_of(*entry.variant), entry.binding->outputs());
    judge_manners(entry);
    if (entry.finished) return;
    if (verdict.ok) return entry.finish(Status::ok, "");
    entry.finish(Status::disagrees, "after timing: " + verdict.reason);
  }

  const Job& job_;
  Board& board_;
  const std::function<void(const Outcome&)>& emit_;
  Problem problem_;
  ThreadState thread_state_;
  std::vector<Entry> entries_;
  Inputs<float> inputs_;
  Truth truth_;
  std::map<double, Truth> rounded_truths_;  ///< by operand rounding, of the few variants that declare one
};

}  // namespace

void run_point(const Job& job, Board& board, const std::function<void(const Outcome&)>& emit) {
  PointRun(job, board, emit).run();
}

}  // namespace attn
