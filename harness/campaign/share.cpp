#include "harness/campaign/share.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <set>

#include "harness/campaign/forecast.h"
#include "harness/problem/error.h"
#include "harness/problem/text.h"
#include "harness/results/csv.h"

namespace attn {
namespace {

/// A core of the nominal machine, and its memory; only the balance between points depends on them.
constexpr double kFlops_per_s = 50e9, kExps_per_s = 4e9, kBytes_per_s = 10e9;
constexpr double kRefused_s = 0.01;  // of a row that is not run

Rates nominal_rates(int threads) {
  Roofs roofs;
  roofs.by_threads[threads] = {
      kFlops_per_s * threads, kExps_per_s * threads, 0, {{"DRAM", 0, kBytes_per_s, kBytes_per_s}}};
  return Rates(std::move(roofs));
}

std::optional<int> whole_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Whole milliseconds: builds may round the last bits differently, and all must deal alike.
int64_t cost_ms(const PlanPoint& point, double budget_s) {
  return std::llround(1e3 * cost_s(point, budget_s));
}

/// The points that `wanted` accepts, in order.
template <class Wanted>
Plan points_where(const Plan& plan, Wanted wanted) {
  Plan part;
  for (size_t k = 0; k < plan.points.size(); ++k) {
    if (wanted(k)) part.points.push_back(plan.points[k]);
  }
  return part;
}

}  // namespace

std::string Shard::text() const { return fmt::format("{}/{}", index, count); }

Shard parse_shard(const std::string& text) {
  const auto parts = split(text, '/');
  if (parts.size() == 2) {
    const auto index = whole_number(parts[0]), count = whole_number(parts[1]);
    if (index && count && *index >= 0 && *index < *count && *count <= kMostShards) return {*index, *count};
  }
  throw UsageError(
      fmt::format("--shard '{}' is not understood: use 0/N to N-1/N, N at most {}", text, kMostShards));
}

std::optional<Shard> slurm_shard() {
  const char* id = std::getenv("SLURM_ARRAY_TASK_ID");
  const char* count = std::getenv("SLURM_ARRAY_TASK_COUNT");
  if (!id || !count) return std::nullopt;
  try {
    return parse_shard(fmt::format("{}/{}", id, count));
  } catch (const UsageError&) {
    throw UsageError(fmt::format(
        "SLURM_ARRAY_TASK_ID is {} of SLURM_ARRAY_TASK_COUNT {}: submit --array=0-N, or give --shard i/N", id,
        count));
  }
}

std::string shard_folder(const std::string& out, const Shard& shard) {
  return fmt::format("{}/shard-{}-of-{}", out, shard.index, shard.count);
}

double cost_s(const PlanPoint& point, double budget_s) {
  const Rates rates = nominal_rates(point.threads);
  double total_s = 0;
  bool runs = false;
  for (const Variant* variant : point.variants) {
    const RowForecast row = forecast_row(point, *variant, budget_s, 1, rates);
    total_s += row.refusal.empty() ? row.most_s : kRefused_s;
    runs |= row.refusal.empty();
  }
  return runs ? total_s + shared_s(point) : total_s;
}

std::vector<int> deal_points(const Plan& plan, double budget_s, int shards) {
  std::vector<int64_t> costs;
  for (const PlanPoint& point : plan.points) costs.push_back(cost_ms(point, budget_s));
  std::vector<size_t> order(costs.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return costs[a] > costs[b]; });
  std::vector<int64_t> loads(static_cast<size_t>(shards), 0);
  std::vector<int> dealt(costs.size());
  for (size_t k : order) {
    const auto least = std::min_element(loads.begin(), loads.end());
    *least += costs[k];
    dealt[k] = static_cast<int>(least - loads.begin());
  }
  return dealt;
}

Plan share_of(const Plan& plan, double budget_s, const Shard& shard) {
  const std::vector<int> dealt = deal_points(plan, budget_s, shard.count);
  return points_where(plan, [&](size_t k) { return dealt[k] == shard.index; });
}

Plan listed_points(const Plan& plan, const std::string& path) {
  std::set<std::string> wanted;
  const CompleteLines file = read_complete_lines(path);
  for (size_t k = 1; k < file.lines.size(); ++k) {
    wanted.insert(split_csv_record(file.lines[k], fmt::format("{}:{}", path, k + 1)).front());
  }
  Plan part = points_where(plan, [&](size_t k) { return wanted.erase(plan.points[k].id) > 0; });
  if (!wanted.empty()) {
    throw UsageError(fmt::format("{} names point {}, which this plan does not have", path, *wanted.begin()));
  }
  return part;
}

std::string plan_table(const Plan& plan, double budget_s, int shards) {
  const std::vector<int> dealt = deal_points(plan, budget_s, shards);
  std::string table = std::string(Plan::kColumns) + ",memory_bytes,cost_s,shard\n";
  for (size_t k = 0; k < plan.points.size(); ++k) {
    const PlanPoint& point = plan.points[k];
    const Rates rates = nominal_rates(point.threads);
    size_t bytes = 0;
    for (const Variant* variant : point.variants) {
      bytes = std::max(bytes, forecast_row(point, *variant, budget_s, 1, rates).bytes);
    }
    table += fmt::format("{},{},{:.3f},{}\n", point.csv(), bytes,
                         static_cast<double>(cost_ms(point, budget_s)) * 1e-3, dealt[k]);
  }
  return table;
}

}  // namespace attn
