#pragma once
// The rows of a campaign's CSV files. Column names are the members' names, in this order; units last in the
// name; an empty field is null, never zero. Floating-point fields are written with the fewest digits that
// read back equal.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace attn {

inline constexpr int kSchemaVersion = 6;
/// The oldest version that is still read; what it lacks is empty. A folder is continued in its own version
/// only.
inline constexpr int kOldestSchemaVersion = 2;

enum class Status { ok, disagrees, unsupported, out_of_memory, timed_out, crashed, skipped };
std::string to_text(Status status);
Status parse_status(std::string_view text);  // throws UsageError

using Number = std::optional<double>;
using Count = std::optional<int64_t>;

/// results.csv: one row per (point, variant), whatever happened. A row that is not ok has no time.
struct ResultRow {
  int64_t schema = kSchemaVersion;
  std::string campaign, point, variant, family, device, fidelity;
  Status status = Status::skipped;
  std::string reason, problem, scope, pass, dtype;
  int64_t batch = 0, heads_q = 0, heads_kv = 0, seq_q = 0, seq_kv = 0, d_model = 0, d_head = 0, d_value = 0;
  std::string mask, position;
  double density = 0;
  int64_t threads = 0;
  std::string launch;  ///< of a GPU's calls: stream, or graph where they are replays; empty on a CPU
  Number time_s_median, time_s_ci_low, time_s_ci_high, time_s_min;
  std::string cache;   ///< of those times: cold on a GPU; empty on a CPU, whose calls repeat on one set
  Count operand_sets;  ///< that the calls of a GPU take in turn, so that none finds its operands in the cache
  Number time_hot_s_median, time_hot_s_ci_low, time_hot_s_ci_high;  ///< a pass of its own, on one set
  Count samples_hot;                                                ///< behind time_hot_s
  /// On a GPU: seconds by the host's clock from before one call, with the device idle and the operands hot,
  /// until the device is idle again; medians, the mean of those of the processes. Calls in time_s hide what
  /// the host takes; here it counts. The first enqueues the call plainly, the second replays a graph of it,
  /// whatever `launch` is; empty where the call cannot be captured, both where it takes too long to tell.
  Number latency_s_median, latency_graph_s_median;
  Count samples, rounds;
  Count processes;   ///< that measured it, one after another
  std::string stop;  ///< what ended the sampling: interval, budget or processes (campaign/pool.h)
  Count outliers;    ///< samples labelled so; no statistic leaves them out
  Number time_s_sd_within, time_s_sd_between;  ///< standard deviations within a process and between processes
  Number time_s_predicted;                     ///< time of one call, forecast before the point ran
  Number ratio_to_baseline, ratio_ci_low, ratio_ci_high;
  Number flops_useful, flops_executed, flops_per_s;
  Number roof_fraction;  ///< time at the limiting roof / time_s_median
  std::string bound;     ///< that roof: compute, exp, memory; empty where no roof is known
  Number bytes_min, bytes_moved_model;
  std::string complexity_time, complexity_memory;
  Count memory_operands_bytes, memory_workspace_planned_bytes, memory_workspace_peak_bytes,
      memory_process_peak_bytes;
  Count memory_process_predicted_bytes;  ///< forecast of memory_process_peak_bytes
  std::string memory_method;
  Number error_rel_l2, error_max_abs, error_bound;  ///< error_bound: largest error / bound, at most 1 when ok
  Number error_vs_dense_rel_l2;
  std::string deterministic;  ///< yes, no or empty
  int64_t seed = 0;
  Number clock_hz_mean;     ///< of the samples of time_s: a CPU's core, a GPU's multiprocessors
  Count samples_throttled;  ///< of those, where a GPU's driver tells; no statistic leaves them out
  Number steal_fraction;    ///< CPU time taken by other virtual machines while the row was timed, whole host
  Number cpu_pressure;      ///< share of that time in which some task of the host waited for a CPU (PSI)
  std::string node;         ///< host that measured the row
  std::string machine;      ///< which one, where a folder joins several kinds of machine or build; else empty
  std::string repro;
};

/// samples.csv: every raw sample. time_s is the time of one call.
struct SampleRow {
  std::string point, variant;
  int64_t process = 0, round = 0, sample = 0;  ///< counted from 0; rounds and samples within the process
  double time_s = 0;
  std::string outlier;  ///< yes or no: beyond Tukey's outer fences of its process
  Number clock_hz;
  std::string cache;      ///< cold or hot on a GPU, empty on a CPU; the samples of time_s are those not hot
  std::string throttled;  ///< no, or why, joined by +; empty where it cannot be told

  bool hot() const { return cache == "hot"; }
};

/// What must not depend on the run: the row without identity, times, and what the host did meanwhile.
ResultRow exact_part(ResultRow row);

/// Header and row as lines of the file, line feed included.
std::string results_header();
std::string samples_header();
std::string to_csv(const ResultRow& row);
std::string to_csv(const SampleRow& row);
/// One line without its end; `where` stands in front of the message of the UsageError.
ResultRow result_from_csv(std::string_view line, const std::string& where);

/// Both throw UsageError with file and line. A last line without a newline is a torn write: it is left out.
std::vector<ResultRow> read_results(const std::string& path);
std::vector<SampleRow> read_samples(const std::string& path);

}  // namespace attn
