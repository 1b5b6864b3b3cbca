#pragma once
// Known-wrong controls: a check that accepts one of them is broken.

#include <string>
#include <vector>

#include "harness/oracle/control_kernel.h"
#include "harness/run/inputs.h"

namespace attn {

struct ControlReport {
  Mutation mutation;
  bool caught = false;
  std::vector<Fill> fills;  ///< that catch it
  std::string example;      ///< the first rejection
  /// A relative error of 1e-6 in exp is within what float32 kernels do: it may survive, and is reported.
  bool may_survive() const { return mutation == Mutation::exp_error_1e_6; }
};

struct ControlsReport {
  std::vector<ControlReport> controls;
  int64_t correct_cases = 0;              ///< runs of the kernel without an error
  double correct_worst = 0;               ///< its largest error / bound
  std::vector<std::string> false_alarms;  ///< rejections of it
  bool ok() const;
};

/// Every control over all fills, up to its first rejection on each.
ControlsReport run_controls(uint64_t seed, int threads);

}  // namespace attn
