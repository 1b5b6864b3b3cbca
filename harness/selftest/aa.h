#pragma once
// Does `compare` cry wolf? The same build against itself, where every "faster" or "slower" is a false alarm.

#include <cstdint>
#include <string>

#include "harness/analysis/compare.h"
#include "harness/selftest/simulate.h"

namespace attn {

/// A share of comparisons with any false alarm, and of rows falsely called; both must stay below
/// kFalseAlarms.
struct FalseAlarms {
  std::string name;
  int64_t comparisons = 0, rows = 0;
  int64_t alarmed_comparisons = 0, alarmed_rows = 0;

  double share_of_comparisons() const;
  double share_of_rows() const;
};

inline constexpr double kLeastFound = 0.8;    ///< share of the changes of 15 % that must be found
inline constexpr double kAaThreshold = 0.02;  ///< the default of `compare`
void count_alarms(FalseAlarms& alarms, const Comparison& comparison);

/// Simulated pairs of campaigns without a difference, under several kinds of noise; and one kind with a
/// variant that became 15 % slower, of which the last number is the share found.
struct SimulatedAlarms {
  std::vector<FalseAlarms> without_change;
  double found = 0;
};
SimulatedAlarms simulate_aa(int64_t trials, uint64_t seed);
/// Every scenario as a line. Returns whether false alarms are few and most changes found.
bool print_aa(const SimulatedAlarms& alarms);

/// Measures a small campaign of this build's CPU variants `runs` times, each point in a process of its own,
/// and compares every run with every other. Needs some seconds a run.
FalseAlarms measure_aa(int64_t runs, const std::string& variants);
bool print_aa(const FalseAlarms& alarms);

}  // namespace attn
