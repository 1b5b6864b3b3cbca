#pragma once
// A campaign on many machines: every machine makes the same plan and measures a share of its points, all
// variants of a point on one machine. Shares are balanced by estimated cost, which therefore must not depend
// on the machine.

#include <optional>
#include <string>
#include <vector>

#include "harness/campaign/plan.h"

namespace attn {

inline constexpr int kMostShards = 100'000;

struct Shard {
  int index = 0;  ///< from 0
  int count = 1;

  std::string text() const;  ///< "0/4"
};
/// Throws UsageError unless the text is i/N with 0 <= i < N.
Shard parse_shard(const std::string& text);
/// From SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT; nothing outside a job array. Throws UsageError where
/// the ids do not run from 0.
std::optional<Shard> slurm_shard();

/// Where a shard of the campaign in `out` goes: out/shard-I-of-N.
std::string shard_folder(const std::string& out, const Shard& shard);

/// Estimated seconds of a point on a nominal machine: oracle, checks, and timing with the whole budget used.
double cost_s(const PlanPoint& point, double budget_s);
/// The shard of every point: the costliest first, each to the shard that has least so far.
std::vector<int> deal_points(const Plan& plan, double budget_s, int shards);
/// The points of one shard, in the plan's order.
Plan share_of(const Plan& plan, double budget_s, const Shard& shard);
/// The points that the first column of a CSV file names, such as plan.csv or missing.csv. Throws UsageError
/// for one that the plan does not have.
Plan listed_points(const Plan& plan, const std::string& path);

/// The plan with costs, for a person: point, threads, problem, variants, memory_bytes (of the largest
/// variant), cost_s, shard. The same on every machine.
std::string plan_table(const Plan& plan, double budget_s, int shards);

}  // namespace attn
