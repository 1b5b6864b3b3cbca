#include "harness/campaign/point.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <map>
#include <memory>

#include "harness/campaign/point_entry.h"
#include "harness/campaign/point_latency.h"
#include "harness/campaign/point_timing.h"
#include "harness/campaign/row.h"
#include "harness/forecast/bytes.h"
#include "harness/measure/device_memory.h"
#include "harness/measure/memory.h"
#include "harness/measure/thread_state.h"
#include "harness/oracle/oracle.h"
#include "harness/registry.h"
#include "harness/run/binding.h"
#include "harness/run/rotation.h"

namespace attn {
namespace {

constexpr const char* kMemoryMethod =
    "operands: sizes of inputs and outputs; planned: booked by plan(); peak: taken from the workspace; "
    "process: VmHWM "
    "after a reset through clear_refs, less what was resident before binding";

constexpr const char* kGpuMemoryMethod =
    "operands: sizes of inputs and outputs; planned: booked by plan(); peak: taken from the workspace; "
    "process: high-water mark of the stream-ordered pool after a reset, plus growth of device memory outside "
    "it, less what was taken before binding";

/// The oracle's work: the first process checks a variant, the others that they time the same.
constexpr int64_t kFirstPairs = 4'000'000, kLaterPairs = 1'000'000;

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
    for (PointEntry& entry : entries_) attempt(entry, [&] { admit(entry); });
    emit_finished();
    if (std::all_of(entries_.begin(), entries_.end(), [](const PointEntry& entry) { return entry.finished; }))
      return;
    board_.announce(Board::kNoVariant, Step::inputs);
    inputs_ = make_inputs(problem_, job_.fill, job_.seed);
    board_.announce(Board::kNoVariant, Step::oracle);
    truth_ = solve({});
    for (const PointEntry& entry : entries_) {
      const OperandRounding rounding = entry.variant->operand_rounding(problem_);
      if (!rounding.none() && !entry.finished) rounded_truths_[rounding] = solve(rounding);
    }
    for (const std::vector<PointEntry*>& group : groups()) {
      run_group(group);
      emit_finished();
    }
  }

 private:
  /// As PointEntry::guard; leaves where the entry has taken the GPU with it.
  template <class Work>
  void attempt(PointEntry& entry, Work work) {
    entry.guard(work);
    if (entry.finished && entry.row.status == Status::crashed && entry.on_gpu()) leave_if_lost();
  }

  /// After a bad access every call on the device fails, whoever makes it: the others need a new process.
  void leave_if_lost() {
    try {
      if (!device_api(Device::cuda).lost()) return;
    } catch (const std::exception&) {  // it could not be had in the first place
      return;
    }
    emit_finished();
    throw DeviceLost{};
  }

  /// Supported, and small enough? Fills in the declared costs.
  void admit(PointEntry& entry) {
    board_.announce(entry.index, Step::bind);
    if (const Support support = support_of(*entry.variant, problem_, job_.launch); !support) {
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
    if (entry.on_gpu()) admit_to_device(entry);
    if (entry.finished) return;
    entry.variant->load();
    thread_state_.restore();  // loading a library may change the mode (-ffast-math)
  }

  void admit_to_device(PointEntry& entry) {
    DeviceApi& api = entry.api();
    const size_t operands = operand_bytes(problem_);
    size_t workspace = planned_workspace_bytes(*entry.variant, problem_, job_.threads);
    if (problem_.pass == Pass::bwd) {
      const Problem forward = problem_.with(Pass::fwd);
      const size_t before = planned_workspace_bytes(*entry.variant, forward, job_.threads);
      // The scratch of a captured backward is there before its forward runs.
      workspace = job_.launch == LaunchMode::graph ? workspace + before : std::max(workspace, before);
    }
    const auto sets = static_cast<size_t>(rotating_sets(operands, api.cache_bytes()));
    entry.device_bytes = sets * operands + workspace;
    const std::optional<DeviceMemory> memory = api.memory();
    if (!memory || entry.device_bytes <= memory->free) return;
    entry.finish(Status::out_of_memory,
                 fmt::format("predicted {} bytes of device memory, {} are free: not attempted",
                             entry.device_bytes, memory->free));
  }

  void emit_finished() {
    for (PointEntry& entry : entries_) {
      if (entry.finished && !entry.emitted) emit_({entry.row, entry.samples, entry.variant_s});
      entry.emitted = entry.finished;
    }
  }

  /// Variants that fit into memory together, in order; usually one group. Only those in the baseline's group
  /// get a ratio: without common rounds there is none.
  std::vector<std::vector<PointEntry*>> groups() {
    const size_t room = job_.memory_limit_bytes - std::min(job_.memory_limit_bytes, shared_bytes(problem_));
    const size_t device_room = free_device_bytes();
    std::vector<std::vector<PointEntry*>> groups;
    size_t used = 0, device_used = 0;
    for (PointEntry& entry : entries_) {
      if (entry.finished) continue;
      if (groups.empty() || used + entry.bytes > room || device_used + entry.device_bytes > device_room) {
        groups.emplace_back();
        used = device_used = 0;
      }
      groups.back().push_back(&entry);
      used += entry.bytes;
      device_used += entry.device_bytes;
    }
    return groups;
  }

  size_t free_device_bytes() const {
    for (const PointEntry& entry : entries_) {
      if (entry.finished || !entry.on_gpu()) continue;
      if (const auto memory = entry.api().memory()) return memory->free;
    }
    return std::numeric_limits<size_t>::max();
  }

  void run_group(const std::vector<PointEntry*>& group) {
    for (PointEntry* entry : group) attempt(*entry, [&] { check(*entry); });
    std::vector<PointEntry*> timed;
    for (PointEntry* entry : group) {
      if (!entry->finished) timed.push_back(entry);
    }
    if (!timed.empty()) time_group(timed);
    for (PointEntry* entry : timed) {
      if (!entry->finished) attempt(*entry, [&] { verify(*entry); });
      entry->binding.reset();
    }
  }

  void check(PointEntry& entry) {
    const bool first_process = job_.process == 0;
    if (first_process) check_guarded(entry);
    if (entry.finished) return;
    board_.announce(entry.index, Step::bind);
    PeakProbe probe;
    DevicePeakProbe device_probe(entry.api());
    entry.binding = std::make_unique<Binding>(*entry.variant, problem_, inputs_,
                                              BindingOptions{.threads = job_.threads, .launch = job_.launch});
    probe.arm();
    device_probe.arm();
    board_.announce(entry.index, Step::check);
    entry.call(*entry.binding);
    record_memory(entry, entry.on_gpu() ? device_probe.growth_bytes() : probe.growth_bytes());
    judge(entry, *entry.binding);
    if (entry.finished) return;
    if (first_process) {
      entry.binding->poison_outputs();
      device_probe.arm();
      entry.call(*entry.binding);
      judge_allocations(entry, device_probe);
      if (entry.finished) return;
      entry.binding->read_outputs(repeated_);
      entry.row.deterministic = same_bits(outputs_, repeated_) ? "yes" : "no";
    }
    if (entry.on_gpu()) prepare_cold_calls(entry);
  }

  void record_memory(PointEntry& entry, const std::optional<int64_t>& growth) const {
    // The first process has called the variant before, so its code is on the device already.
    if (!entry.on_gpu() || job_.process == 0) entry.row.memory_process_peak_bytes = growth;
    if (entry.variant->info().books_scratch) {
      const Footprint footprint = entry.binding->footprint();
      entry.row.memory_workspace_peak_bytes = static_cast<int64_t>(footprint.workspace_peak);
    }
    entry.row.memory_method = entry.on_gpu() ? kGpuMemoryMethod : kMemoryMethod;
  }

  /// Of a second call: in the first a library may still set itself up.
  static void judge_allocations(PointEntry& entry, const DevicePeakProbe& probe) {
    const int64_t allocated = probe.allocated_bytes().value_or(0);
    if (allocated == 0 || !entry.variant->info().books_scratch) return;
    entry.finish(Status::disagrees, fmt::format("allocates {} bytes of device memory in a call", allocated));
  }

  static void prepare_cold_calls(PointEntry& entry) {
    entry.binding->make_rotation();
    entry.row.cache = kColdSamples;
    entry.row.operand_sets = entry.binding->operand_sets();
  }

  /// Outputs and scratch poisoned and between guard bytes, apart from the binding that is timed: guards would
  /// move its operands.
  void check_guarded(PointEntry& entry) {
    board_.announce(entry.index, Step::check);
    Binding binding(*entry.variant, problem_, inputs_,
                    {.threads = job_.threads, .guarded = true, .launch = job_.launch});
    entry.call(binding);
    const std::vector<std::string> overruns = binding.overruns();
    if (!overruns.empty()) {
      return entry.finish(Status::disagrees, fmt::format("wrote beyond {}", fmt::join(overruns, ", ")));
    }
    judge(entry, binding);
    if (!entry.finished) judge_manners(entry);
  }

  /// A library with threads of its own may set them as it likes; whatever it leaves behind is put back.
  void judge_manners(PointEntry& entry) {
    const std::string changed = thread_state_.restore();
    if (changed.empty() || entry.variant->info().own_threads) return;
    entry.finish(Status::disagrees, "changes " + changed);
  }

  Truth solve(const OperandRounding& operand_rounding) const {
    return make_truth(problem_, inputs_,
                      {.threads = job_.threads,
                       .max_pairs = job_.process == 0 ? kFirstPairs : kLaterPairs,
                       .seed = job_.seed + static_cast<uint64_t>(job_.process),  // other rows each
                       .operand_rounding = operand_rounding});
  }
  const Truth& truth_of(const Variant& variant) const {
    const OperandRounding rounding = variant.operand_rounding(problem_);
    return rounding.none() ? truth_ : rounded_truths_.at(rounding);
  }

  Verdict verdict_of(const PointEntry& entry, Binding& binding) {
    binding.read_outputs(outputs_);
    return compare(problem_, truth_of(*entry.variant), outputs_);
  }

  void judge(PointEntry& entry, Binding& binding) {
    const Verdict verdict = verdict_of(entry, binding);
    entry.row.error_rel_l2 = verdict.rel_l2;
    entry.row.error_max_abs = verdict.max_abs;
    entry.row.error_bound = verdict.worst;
    if (!verdict.ok) entry.finish(Status::disagrees, verdict.reason);
  }

  void time_group(const std::vector<PointEntry*>& timed) {
    PointEntry* at_work = timed.front();
    try {
      time_entries(job_, board_, timed, at_work);
    } catch (...) {  // the variant at work is lost, the others start over
      attempt(*at_work, [] { throw; });
      std::vector<PointEntry*> others;
      for (PointEntry* entry : timed) {
        if (!entry->finished) others.push_back(entry);
      }
      if (!others.empty()) time_group(others);
    }
  }

  /// A run after thousands of timed ones: nothing may have gone stale or been skipped.
  void verify(PointEntry& entry) {
    board_.announce(entry.index, Step::verify);
    entry.binding->poison_outputs();
    entry.call(*entry.binding);
    const Verdict verdict = verdict_of(entry, *entry.binding);
    judge_manners(entry);
    if (entry.finished) return;
    if (!verdict.ok) return entry.finish(Status::disagrees, "after timing: " + verdict.reason);
    if (entry.on_gpu()) {
      board_.announce(entry.index, Step::latency);
      measure_latency(entry);
    }
    entry.finish(Status::ok, "");
  }

  const Job& job_;
  Board& board_;
  const std::function<void(const Outcome&)>& emit_;
  Problem problem_;
  ThreadState thread_state_;
  std::vector<PointEntry> entries_;
  Inputs<float> inputs_;
  Truth truth_;
  Outputs<float> outputs_, repeated_;                ///< memory kept from call to call
  std::map<OperandRounding, Truth> rounded_truths_;  ///< of the few variants that declare one
};

}  // namespace

void run_point(const Job& job, Board& board, const std::function<void(const Outcome&)>& emit) {
  PointRun(job, board, emit).run();
}

}  // namespace attn
