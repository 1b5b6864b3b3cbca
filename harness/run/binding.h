#pragma once
// A variant bound to a problem and its inputs: operands and workspace allocated on the variant's device,
// prepared, ready to run. Checking, measuring and `eval` all run a variant through this one class.

#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "harness/run/block_scope.h"
#include "harness/run/device.h"
#include "harness/run/operands.h"
#include "harness/variant.h"

namespace attn {

/// What a timed call finds in the cache: cold, none of its operands; hot, whatever the call before it left.
enum class CacheState { cold, hot };

enum class Layout { seq_major, head_major };  ///< [batch, seq, head, width] or [batch, head, seq, width]

struct BindingOptions {
  int threads = 1;
  Layout layout = Layout::seq_major;
  /// Guard bytes around outputs and scratch; see overruns().
  bool guarded = false;
  /// With graph every call of run() and time_s() is a replay.
  LaunchMode launch = LaunchMode::stream;
  DeviceApi* api = nullptr;  ///< null: that of the variant's device
};

/// Bytes, exact for our own allocations.
struct Footprint {
  size_t operands = 0;           ///< inputs and outputs, tables included
  size_t workspace_planned = 0;  ///< booked by plan()
  size_t workspace_peak = 0;     ///< taken by prepare and the calls so far
};

/// What Variant::supports says, plus what the harness knows: device present, block scope, a forward for a
/// backward, graphs.
Support support_of(const Variant& variant, const Problem& problem, LaunchMode launch = LaunchMode::stream);
/// The variant's workspace for this problem, block scope included.
size_t planned_workspace_bytes(const Variant& variant, const Problem& problem, int threads);
/// The variant's cost for this problem, block scope included.
Cost cost_of(const Variant& variant, const Problem& problem);

class Binding {
 public:
  /// The problem must be supported. Outputs, and where guarded scratch, are poisoned (NaN), then prepare()
  /// runs. A backward gets o and lse from the variant's own forward. Throws OutOfMemory. `variant` must
  /// outlive the binding.
  ///
  /// With LaunchMode::graph a plain call comes first, on other scratch, in which libraries may set themselves
  /// up; then a call is captured, both before the inputs have their values. Behind that scratch is prepared
  /// again and outputs are poisoned: a replay has nothing of what was done, read or found out at the capture.
  /// Throws CannotCapture.
  Binding(const Variant& variant, const Problem& problem, const Inputs<float>& inputs,
          const BindingOptions& options);
  Binding(const Binding&) = delete;
  ~Binding();

  /// One forward or backward, or its replay; a GPU only enqueues it.
  void run();
  void synchronize() { api_.synchronize(); }
  /// Cold calls take the sets of operands in turn. `meanwhile`: see DeviceApi::time_s.
  double time_s(
      int64_t calls, CacheState cache = CacheState::hot, const std::function<void()>& meanwhile = [] {});
  /// Seconds by the host's clock from before one call on an idle device until the device is idle again,
  /// launched as said. Throws CannotCapture.
  double latency_s(LaunchMode launch);
  /// Copies the operands until cold calls find none of them in the device's cache, and captures a call on
  /// each set where calls are replays. Throws OutOfMemory.
  void make_rotation();
  /// What cold calls take in turn; 1 before make_rotation, and where one set does not fit into the cache.
  int64_t operand_sets() const { return operand_sets_; }
  /// Poisons the outputs again.
  void poison_outputs();
  /// What the last run left, as contiguous float32; without the LSE where the variant gives none.
  Outputs<float> outputs();
  /// The same into tensors of an earlier call: at a GPU's sizes new memory costs more than what is read.
  void read_outputs(Outputs<float>& results);
  /// Names of outputs and scratch whose guard bytes were overwritten (guarded only).
  std::vector<std::string> overruns();
  Footprint footprint() const;

 private:
  struct Slot;  // an operand in the device's memory

  /// Device memory of one workspace with its booking list.
  struct Scratch {
    DeviceBuffer memory;
    Workspace counting;
    Workspace granting;
  };

  Slot& add(const Operand& operand);
  bool as_on_host(const Slot& slot) const;  ///< same type and order
  void upload(Slot& slot, const std::vector<float>& values);
  void download(const Slot& slot, std::vector<float>& values);
  Scratch make_scratch(const Problem& problem);
  void prepare_scratch(Scratch& scratch, const Problem& problem);
  /// Of all inputs; a backward's o and lse by the variant's own forward.
  void give_values(const Inputs<float>& inputs);
  void capture_first();
  /// Of the set whose turn it is; captured where it has not been.
  DeviceGraph& graph();
  void call(Workspace& workspace);
  void call_forward(const Problem& problem, Workspace& workspace);
  void call_backward(Workspace& workspace);
  void call_block(Workspace& workspace);
  bool guards_intact(const std::byte* begin);
  const Slot* find(std::string_view name) const;
  /// Of the set whose turn it is.
  std::byte* address(const Slot& slot) const;
  template <class T>
  T* data(std::string_view name) const;
  template <class Void>
  BasicTensor<Void> tensor(std::string_view name) const;
  Tables tables() const;

  const Variant& variant_;
  Problem problem_;
  BindingOptions options_;
  DeviceApi& api_;
  Context context_;
  std::vector<std::unique_ptr<Slot>> slots_;  ///< the first set
  DeviceBuffer rotation_;                     ///< the others, one behind the other
  size_t rotation_stride_ = 0;
  int64_t operand_sets_ = 1;
  int64_t current_set_ = 0;    ///< what run() takes: the first, but within a cold sample
  int64_t last_cold_set_ = 0;  ///< of all samples: one of few calls must not begin where the last one did
  Scratch scratch_;
  std::vector<std::unique_ptr<DeviceGraph>> graphs_;  ///< by set of operands; the last member: it is over
                                                      ///< before the memory that it works on
};

}  // namespace attn
