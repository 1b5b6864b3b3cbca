#include "harness/measure/roof_trials.h"

#include <algorithm>

namespace attn {
namespace {

constexpr double kTrial_s = 8e-3;  // long against the clock and a barrier, short against interruptions
constexpr int kRounds = 10, kFewestTrials = 3;
constexpr double kLongest_s = 0.1;  // where one pass takes longer than a trial

}  // namespace

void Roof::try_once() {
  for (;;) {
    const RoofTrial trial = attempt_(repeats_);
    // Judged by one thread's own time: where others use the machine, waiting would pass for work.
    if (trial.shortest_s >= kTrial_s / 2) return record(trial);
    const double growth = std::clamp(kTrial_s / std::max(trial.shortest_s, 1e-9), 2.0, 1000.0);
    repeats_ = static_cast<int64_t>(static_cast<double>(repeats_) * growth);
  }
}

bool Roof::settled() const { return trials_ >= kFewestTrials && spent_s_ >= kLongest_s; }

void Roof::record(const RoofTrial& trial) {
  best_ = std::max(best_, trial.amount / trial.seconds);
  spent_s_ += trial.seconds;
  ++trials_;
}

void try_in_turns(const std::vector<Roof*>& roofs) {
  for (int round = 0; round < kRounds; ++round) {
    for (Roof* roof : roofs) {
      if (!roof->settled()) roof->try_once();
    }
  }
}

}  // namespace attn
