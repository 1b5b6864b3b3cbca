#include "harness/selftest/simulate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "harness/analysis/interval.h"

namespace attn {
namespace {

constexpr size_t kFewestSamples = 6, kMostSamples = 170;

/// median_rank of every number of samples, worked out once.
size_t rank_of(size_t count) {
  static const std::vector<size_t> ranks = [] {
    std::vector<size_t> table;
    for (size_t k = 0; k <= kMostSamples; ++k) {
      table.push_back(static_cast<size_t>(median_rank(static_cast<int64_t>(k))));
    }
    return table;
  }();
  return ranks[count];
}

/// `sorted`: ascending.
bool precise_enough(const std::vector<double>& sorted, double target) {
  const size_t count = sorted.size();
  if (count < kFewestSamples) return false;
  const double middle = (sorted[(count - 1) / 2] + sorted[count / 2]) / 2;
  return sorted[count - rank_of(count)] <= middle * (1 + target) &&
         sorted[rank_of(count) - 1] >= middle * (1 - target);
}

/// `sd`: of the samples of this point.
void simulate_process(Samples& samples, int process, double true_time_s, double sd, const Noise& noise,
                      const Stopping& stopping, std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  std::uniform_real_distribution<double> uniform;
  std::exponential_distribution<double> delay(1 / noise.slow_mean);
  double shift = noise.between * normal(random);
  if (uniform(random) < noise.slow_processes) shift += delay(random) / 3;
  const double memory = noise.correlation, fresh = std::sqrt(1 - memory * memory);
  double state = normal(random), spent_s = 0;
  std::vector<double> sorted;
  while (sorted.size() < kMostSamples && spent_s < stopping.budget_s / stopping.processes &&
         !precise_enough(sorted, stopping.target * std::sqrt(stopping.processes))) {
    const double slow = uniform(random) < noise.slow_share ? delay(random) : 0;
    const double time_s = true_time_s * std::exp(shift + sd * state + slow);
    state = memory * state + fresh * normal(random);
    samples.add(process, static_cast<int64_t>(sorted.size()), time_s);
    sorted.insert(std::upper_bound(sorted.begin(), sorted.end(), time_s), time_s);
    spent_s += std::max(time_s, 200e-6);  // a sample is a batch of calls, no shorter
  }
}

}  // namespace

Samples simulate_samples(double true_time_s, const Noise& noise, const Stopping& stopping,
                         std::mt19937_64& random) {
  std::normal_distribution<double> normal;
  const double sd = noise.within * std::exp(noise.within_spread * normal(random));
  Samples samples;
  for (int process = 0; process < stopping.processes; ++process) {
    simulate_process(samples, process, true_time_s, sd, noise, stopping, random);
  }
  return samples;
}

ResultRow simulate_row(const std::string& variant, Axis axis, double x, double declared_exponent) {
  const auto value = static_cast<int64_t>(x);
  int64_t n = 2048, heads = 8, width = 64;
  if (axis == Axis::n) n = value;
  if (axis == Axis::d) width = value;
  if (axis == Axis::h_fixed_head) heads = value;
  if (axis == Axis::h_fixed_width) {
    heads = value;
    width = 4096 / heads;
  }
  ResultRow row;
  row.variant = variant;
  row.device = "cpu";
  row.status = Status::ok;
  row.heads_q = row.heads_kv = heads;
  row.seq_q = row.seq_kv = n;
  row.d_head = row.d_value = width;
  row.d_model = heads * width;
  row.threads = 2;
  row.problem = fmt::format(
      "b=1,hq={0},hk={0},nq={1},nk={1},d={2},dv={2},dtype=f32,pass=fwd,mask=none,pos=none", heads, n, width);
  row.point = row.problem;
  row.flops_executed = 1e6 * std::pow(x, declared_exponent);
  row.memory_operands_bytes = 4 * heads * n * (4 * width + 1);
  return row;
}

void SimulatedCampaign::add(ResultRow row, Samples times) {
  row.time_s_median = median(times.all());
  row.samples = static_cast<int64_t>(times.all().size());
  samples[{row.point, row.variant}] = std::move(times);
  rows.push_back(std::move(row));
}

std::mt19937_64 trial_random(uint64_t seed, uint64_t scenario, uint64_t trial) {
  std::seed_seq words{seed, scenario, trial};
  return std::mt19937_64(words);
}

}  // namespace attn
