// Several processes of a point: spread, outliers, and the row made of them.

#include "harness/campaign/pool.h"

#include <cmath>
#include <random>

#include "harness/analysis/processes.h"
#include "tests/catch.h"

using namespace attn;

namespace {

const std::string kProblem = "nq=8,hq=1,d=8";

/// Times of a process around `middle`, spread evenly over +-1 %.
std::vector<double> even_times(double middle, int count = 21) {
  std::vector<double> times;
  for (int k = 0; k < count; ++k) times.push_back(middle * (0.99 + 0.02 * (k * 8 % count) / (count - 1)));
  return times;
}

Outcome outcome_of(const std::string& variant, const std::vector<double>& times, const std::string& stop) {
  Outcome outcome;
  outcome.row.point = "p01";
  outcome.row.variant = variant;
  outcome.row.device = "cpu";
  outcome.row.status = Status::ok;
  outcome.row.problem = kProblem;
  outcome.row.flops_useful = 1000;
  outcome.row.bytes_min = 100;
  outcome.row.stop = stop;
  for (size_t k = 0; k < times.size(); ++k) {
    const auto number = static_cast<int64_t>(k);
    outcome.samples.push_back({.point = outcome.row.point,
                               .variant = variant,
                               .round = number,
                               .sample = number,
                               .time_s = times[k]});
  }
  return outcome;
}

const Job kJob{.problem = kProblem, .baseline = "base", .processes = 2, .target = 0.02};

}  // namespace

TEST_CASE("the interval over processes is never narrower than what they differ by") {
  const ByProcess alike{even_times(1), even_times(1)}, apart{even_times(1), even_times(1.1)};
  CHECK(interval_over_processes(alike).low > 0.99);
  CHECK(interval_over_processes(alike).high < 1.01);
  const Interval wide = interval_over_processes(apart);
  CHECK(wide.low <= median(apart[0]));
  CHECK(wide.high >= median(apart[1]));
  CHECK(within_target(alike, 0.02));
  CHECK(!within_target(apart, 0.02));
  CHECK(within_target(apart, 0.06));
  CHECK(!interval_over_processes({{1, 2}, {1.5}}).known());
  CHECK(interval_over_processes({{1, 1, 1}, {1, 1, 1}}).known());
}

TEST_CASE("deviations within and between processes are those that made the samples") {
  std::mt19937_64 random(7);
  std::normal_distribution<double> normal;
  ByProcess samples;
  for (int process = 0; process < 400; ++process) {
    const double middle = 10 + 0.5 * normal(random);
    auto& times = samples.emplace_back();
    for (int k = 0; k < 8 + process % 5; ++k) times.push_back(middle + 0.2 * normal(random));
  }
  const Deviations deviations = deviations_of(samples);
  CHECK(*deviations.within == Approx(0.2).epsilon(0.05));
  CHECK(*deviations.between == Approx(0.5).epsilon(0.1));
  // By hand: means 2 and 4, within sum of squares 2 + 2, between 3 (1 + 1).
  const Deviations small = deviations_of({{1, 2, 3}, {3, 4, 5}});
  CHECK(*small.within == Approx(1));
  CHECK(*small.between == Approx(std::sqrt((6.0 - 1) / 3)));
  CHECK(*deviations_of({{1, 9}, {5, 5}}).between == 0);
  CHECK(!deviations_of({{1, 2, 3}}).between);
  CHECK(*deviations_of({{1, 2, 3}}).within == Approx(1));
  CHECK(!deviations_of({{1}, {2}}).within);
  CHECK(!deviations_of({}).within);
}

TEST_CASE("outliers are those beyond Tukey's outer fences") {
  std::vector<double> times = even_times(1);
  CHECK(find_outliers(times) == std::vector<bool>(times.size()));
  times[3] = 1.2;
  times[7] = 0.8;
  const auto marks = find_outliers(times);
  for (size_t k = 0; k < times.size(); ++k) CHECK(marks[k] == (k == 3 || k == 7));
  CHECK(find_outliers({1, 1, 1, 1, 100}) == std::vector<bool>(5));  // too few to say
}

TEST_CASE("pooled: samples of all processes, labelled, none left out") {
  std::vector<double> second = even_times(1.01);
  second[5] = 3;
  const Outcome pooled =
      pool(kJob, {outcome_of("mine", even_times(1), "median"), outcome_of("mine", second, "median")}, {});
  CHECK(pooled.samples.size() == 42);
  CHECK(pooled.row.samples == 42);
  CHECK(pooled.row.processes == 2);
  CHECK(pooled.row.rounds == 42);
  CHECK(pooled.row.outliers == 1);
  CHECK(pooled.samples[26].process == 1);
  CHECK(pooled.samples[26].outlier == "yes");
  CHECK(pooled.samples[25].outlier == "no");
  std::vector<double> all = even_times(1);
  all.insert(all.end(), second.begin(), second.end());
  CHECK(*pooled.row.time_s_median == median(all));
  CHECK(*pooled.row.time_s_sd_within > 0.2);  // the outlier is in
  CHECK(*pooled.row.flops_per_s == Approx(1000 / median(all)));
  CHECK(!pooled.row.ratio_to_baseline);
}

TEST_CASE("pooled: what the sampling came to") {
  const auto stop = [](double first, double second, const std::string& stop_first,
                       const std::string& stop_second) {
    const std::vector<Outcome> base{outcome_of("base", even_times(1), "median"),
                                    outcome_of("base", even_times(1), "median")};
    const std::vector<Outcome> mine{outcome_of("mine", even_times(first), stop_first),
                                    outcome_of("mine", even_times(second), stop_second)};
    const Outcome pooled = pool(kJob, mine, base);
    CHECK(*pooled.row.ratio_to_baseline == Approx((first + second) / 2).epsilon(0.03));
    CHECK(*pooled.row.ratio_ci_low <= std::min(first, second) * 1.0001);
    CHECK(*pooled.row.ratio_ci_high >= std::max(first, second) * 0.9999);
    return pooled.row.stop;
  };
  CHECK(stop(2, 2, "ratio", "ratio") == "ratio");
  CHECK(stop(2, 2, "budget", "budget") == "ratio");  // together they know
  CHECK(stop(2, 2.2, "ratio", "ratio") == "processes");
  CHECK(stop(2, 2.2, "ratio", "budget") == "budget");
  const Outcome base = pool(kJob, {outcome_of("base", even_times(1), "median")},
                            {outcome_of("base", even_times(1), "median")});
  CHECK(base.row.stop == "median");
  CHECK(*base.row.ratio_to_baseline == 1);
}

TEST_CASE("pooled: the largest error and memory of the processes") {
  Outcome first = outcome_of("mine", even_times(1), "median"),
          second = outcome_of("mine", even_times(1), "median");
  first.row.error_bound = 0.2;
  second.row.error_bound = 0.3;
  first.row.memory_process_peak_bytes = 500;
  second.row.memory_process_peak_bytes = 400;
  first.row.deterministic = "yes";
  first.row.steal_fraction = 0.1;
  second.row.steal_fraction = 0.3;
  const Outcome pooled = pool(kJob, {first, second}, {});
  CHECK(pooled.row.error_bound == 0.3);
  CHECK(pooled.row.memory_process_peak_bytes == 500);
  CHECK(pooled.row.deterministic == "yes");
  CHECK(*pooled.row.steal_fraction == Approx(0.2));
}
