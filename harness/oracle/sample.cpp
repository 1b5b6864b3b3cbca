#include "harness/oracle/sample.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

namespace attn {
namespace {

constexpr double kBackwardCost = 4;  // of a pair, in forward pairs

std::vector<int64_t> everything(int64_t count) {
  std::vector<int64_t> all(static_cast<size_t>(count));
  std::iota(all.begin(), all.end(), int64_t{0});
  return all;
}

/// `wanted` of [0, count), ascending: tile edges first, then random ones.
std::vector<int64_t> pick(int64_t count, int64_t wanted, std::mt19937_64& random) {
  if (wanted >= count) return everything(count);
  std::set<int64_t> picked;
  for (int64_t edge : {count - 1, int64_t{0}, int64_t{64}, int64_t{63}, count / 2, int64_t{65}, int64_t{127},
                       int64_t{128}, int64_t{1}}) {
    if (edge < count && static_cast<int64_t>(picked.size()) < wanted) picked.insert(edge);
  }
  std::uniform_int_distribution<int64_t> any(0, count - 1);
  while (static_cast<int64_t>(picked.size()) < wanted) picked.insert(any(random));
  return {picked.begin(), picked.end()};
}

Sample complete_sample(const Problem& p) {
  Sample sample;
  sample.rows.assign(static_cast<size_t>(p.batch), everything(p.seq_q));
  sample.columns.assign(static_cast<size_t>(p.batch * p.heads_kv), everything(p.seq_kv));
  return sample;
}

void draw_columns(const Problem& p, double most, double pairs_per_head, std::mt19937_64& random,
                  Sample& sample) {
  const auto group = static_cast<double>(p.group());
  const double unit_cost = std::max(pairs_per_head * group, 1.0);
  auto affordable =
      static_cast<size_t>(2 * most / unit_cost);  // a fact costs a fraction of a full row's pair
  if (affordable == 0 && unit_cost <= 24 * most) affordable = 1;
  std::vector<size_t> units(sample.columns.size());
  std::iota(units.begin(), units.end(), size_t{0});
  std::shuffle(units.begin(), units.end(), random);
  units.resize(std::min(units.size(), affordable));
  const double per_unit = most / kBackwardCost / static_cast<double>(std::max(units.size(), size_t{1}));
  const auto wanted = static_cast<int64_t>(per_unit / (2 * group * static_cast<double>(p.seq_q)));
  for (size_t unit : units) sample.columns[unit] = pick(p.seq_kv, std::max(wanted, int64_t{4}), random);
}

}  // namespace

Sample draw_sample(const Problem& p, const TruthOptions& options) {
  const double cost = p.pass == Pass::bwd ? kBackwardCost : 1;
  const double pairs = static_cast<double>(visible_pairs(p)), heads = static_cast<double>(p.heads_q);
  const double limit = static_cast<double>(options.max_pairs) / cost;
  if (pairs * heads <= limit) return complete_sample(p);
  Sample sample{.complete = false};
  std::mt19937_64 random(options.seed);
  const double rows = limit / heads * static_cast<double>(p.seq_q) / pairs;  // per batch entry
  for (int64_t b = 0; b < p.batch; ++b) {
    sample.rows.push_back(pick(p.seq_q, std::max(static_cast<int64_t>(rows), int64_t{4}), random));
  }
  sample.columns.resize(static_cast<size_t>(p.batch * p.heads_kv));
  if (p.pass == Pass::bwd)
    draw_columns(p, static_cast<double>(options.max_pairs), pairs / static_cast<double>(p.batch), random,
                 sample);
  return sample;
}

}  // namespace attn
