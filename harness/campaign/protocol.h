#pragma once
// What supervisor and worker exchange. The job goes to the worker's standard input as one JSON object.
// Outcomes come back on a pipe of their own, one JSON object a line; standard output stays out of it. Where
// the worker is at work stands on a shared page, which survives the worker and costs no system call between
// samples.

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "harness/measure/roof_limits.h"
#include "harness/results/schema.h"
#include "harness/run/inputs.h"
#include "harness/run/launch.h"

namespace attn {

/// File descriptors in the worker.
inline constexpr int kOutcomeDescriptor = 3;
inline constexpr int kBoardDescriptor = 4;
/// Exit code of a worker that ran out of memory outside of any variant.
inline constexpr int kExitOutOfMemory = 3;
/// Exit code of a worker whose GPU no longer answers; the variant that lost it has its row.
inline constexpr int kExitDeviceLost = 4;

struct Job {
  std::string campaign, point, problem;
  std::vector<std::string> variants;
  std::string baseline;
  int threads = 1;
  Fill fill = Fill::normal;
  LaunchMode launch = LaunchMode::stream;  ///< of GPU variants
  uint64_t seed = 0;
  int process = 0;    ///< which of `processes`, one after another, this worker is
  int processes = 1;  ///< among which the budget is divided
  double budget_s = 0;
  double target = 0.02;  ///< half-width, relative, of the interval over all processes that ends the sampling
  size_t memory_limit_bytes = 0;
  RoofLimits roofs;                                ///< of `threads`
  std::map<std::string, RoofLimits> gpu_roofs;     ///< by GPU variant
  std::map<std::string, double> time_s_predicted;  ///< of one call, by variant; where it is known

  std::string to_text() const;
  static Job parse(const std::string& text);
};

/// A finished row with its samples.
struct Outcome {
  ResultRow row;
  std::vector<SampleRow> samples;
  double variant_s = 0;  ///< seconds spent in the variant's own calls, timed or not

  std::string to_line() const;
  static Outcome parse(std::string_view line);
  std::string samples_csv() const;
};

enum class Step : int32_t { inputs, oracle, bind, check, warm_up, time, verify, latency };
inline constexpr size_t kSteps = 8;
std::string to_text(Step step);
using StepTimes = std::array<double, kSteps>;  ///< seconds
void add_times(StepTimes& sum, const StepTimes& times);

/// On a page shared by both processes.
struct Board {
  static constexpr int32_t kNoVariant = -1;
  std::atomic<int32_t> variant{kNoVariant};  ///< index into Job::variants
  std::atomic<Step> step{Step::inputs};
  std::atomic<int64_t> since_ns{0};                     ///< steady clock, when this step began
  std::array<std::atomic<int64_t>, kSteps> spent_ns{};  ///< in steps that have ended

  void announce(int32_t which, Step what);
  StepTimes step_times() const;  ///< the present step until now
  double seconds_in_step() const;
};
static_assert(std::atomic<int64_t>::is_always_lock_free, "the board is shared between processes");

}  // namespace attn
