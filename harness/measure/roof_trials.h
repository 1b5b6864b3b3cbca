#pragma once
// A roof is the best of several trials; those of different roofs take turns.

#include <cstdint>
#include <functional>
#include <vector>

namespace attn {

struct RoofTrial {
  double amount;      ///< of all threads
  double seconds;     ///< from the first thread's start to the last one's end
  double shortest_s;  ///< a thread's own time
};

/// One trial of so many repeats.
using RoofAttempt = std::function<RoofTrial(int64_t repeats)>;

/// The largest amount per second of several trials.
class Roof {
 public:
  explicit Roof(RoofAttempt attempt) : attempt_(std::move(attempt)) {}

  /// Finds the repeats that make a trial long enough, and measures.
  void try_once();
  bool settled() const;
  double best() const { return best_; }

 private:
  void record(const RoofTrial& trial);

  RoofAttempt attempt_;
  int64_t repeats_ = 1;
  int trials_ = 0;
  double spent_s_ = 0, best_ = 0;
};

/// Some rounds, each roof once a round until it is settled.
void try_in_turns(const std::vector<Roof*>& roofs);

}  // namespace attn
