#pragma once
// Runs variants against the truth: outputs and scratch poisoned, guard bytes around them, NaN and infinity
// planted where no query may look, twice for repeatability, on one thread and on several.

#include <string>
#include <vector>

#include "harness/oracle/cases.h"
#include "harness/oracle/oracle.h"

namespace attn {

struct CheckPlan {
  std::vector<const Variant*> variants;
  std::vector<Case> cases;
  std::vector<Fill> fills;
  uint64_t seed = 1;
  LaunchMode launch = LaunchMode::stream;
  int threads = 2;  ///< each case runs on one thread, with its first two fills also on this many
};

struct CheckFailure {
  std::string what;
  std::string command;  ///< reruns exactly this
};

struct VariantReport {
  std::string variant;
  int64_t cases = 0;        ///< (problem, fill) pairs that ran
  int64_t unsupported = 0;  ///< pairs it refuses
  bool deterministic = true;
  double worst = 0;  ///< largest error / bound
  std::string worst_at;
  std::vector<CheckFailure> failures;
};

/// One variant on one problem with given inputs.
struct CaseOutcome {
  bool ok = true;
  bool deterministic = true;
  double worst = 0;
  std::string reason;
};
CaseOutcome check_case(const Variant& variant, const Case& problem, const Inputs<float>& inputs,
                       const Truth& truth, int threads, LaunchMode launch = LaunchMode::stream);

/// Inputs of a checked run: the fill, with NaN and infinities in keys, values and d_o that nothing may read.
Inputs<float> make_checked_inputs(const Problem& problem, Fill fill, uint64_t seed);
/// `attnbench check ...` for one case.
std::string rerun_command(const std::string& variant, const Problem& problem, Fill fill, uint64_t seed,
                          LaunchMode launch = LaunchMode::stream);

std::vector<VariantReport> check(const CheckPlan& plan);

}  // namespace attn
