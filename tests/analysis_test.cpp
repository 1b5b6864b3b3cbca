// Intervals, exponent fits and crossovers against known truth.

#include "harness/analysis/analysis.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "harness/analysis/summary.h"
#include "harness/analysis/table.h"
#include "tests/catch.h"
#include "tests/noisy_samples.h"

using namespace attn;

namespace {

/// One row of a sweep in n, as a campaign writes it; bytes and FLOPs of a dense variant with scores stored.
ResultRow dense_row(const std::string& variant, int64_t n, double time_s) {
  ResultRow row;
  row.variant = variant;
  row.point = fmt::format("n{}", n);
  row.status = Status::ok;
  row.problem =
      fmt::format("b=1,hq=8,hk=8,nq={0},nk={0},d=64,dv=64,dtype=f32,pass=fwd,mask=none,pos=none", n);
  row.heads_q = row.heads_kv = 8;
  row.seq_q = row.seq_kv = n;
  row.d_model = 512;
  row.d_head = row.d_value = 64;
  row.threads = 2;
  row.time_s_median = time_s;
  const double pairs = static_cast<double>(n) * static_cast<double>(n);
  row.flops_executed = 4 * 8 * 64 * pairs;
  row.memory_operands_bytes = 8 * n * (64 * 4 * 4 + 4);
  row.memory_workspace_planned_bytes = row.memory_workspace_peak_bytes = 8 * 4 * n * n;
  row.error_bound = 0.25;
  return row;
}

struct Sweep {
  std::vector<ResultRow> rows;
  SampleIndex samples;
};

/// A sweep whose true time is offset + coefficient n^exponent, with noise per sample and per point.
Sweep simulated(double offset, double coefficient, double exponent, double noise,
                const std::vector<int64_t>& sizes, std::mt19937_64& random) {
  std::normal_distribution<double> between_points(0, noise / 2);
  Sweep sweep;
  for (const int64_t n : sizes) {
    const double truth = offset + coefficient * std::pow(static_cast<double>(n), exponent);
    const Samples samples = noisy_samples(truth * std::exp(between_points(random)), noise, random);
    sweep.rows.push_back(dense_row("unlinked/cpu", n, median(samples.all())));
    sweep.samples[{sweep.rows.back().point, "unlinked/cpu"}] = samples;
  }
  return sweep;
}

FitRow time_fit(const Sweep& sweep) {
  return fit_series(group_series(sweep.rows, sweep.samples).front(), Quantity::time);
}

/// Two variants on the same sizes, 1e-8 n^2 against 9e-6 n: the second is faster from n = 900 on, and has
/// less work from n = 600 on.
Sweep crossing_sweep(std::mt19937_64& random) {
  Sweep sweep;
  for (int64_t n = 128; n <= 8192; n *= 2) {
    const auto size = static_cast<double>(n);
    for (const bool dense : {true, false}) {
      const std::string variant = dense ? "dense/cpu" : "linear/cpu";
      const Samples samples = noisy_samples(dense ? 1e-8 * size * size : 9e-6 * size, 0.05, random);
      sweep.rows.push_back(dense_row(variant, n, median(samples.all())));
      sweep.samples[{sweep.rows.back().point, variant}] = samples;
      if (!dense) sweep.rows.back().flops_executed = 4 * 8 * 64 * size * 600;
    }
  }
  return sweep;
}

}  // namespace

TEST_CASE("the median's interval has the exact ranks") {
  CHECK(median({3, 1, 2}) == 2);
  CHECK(median({4, 1, 2, 3}) == 2.5);
  CHECK(std::isnan(median({})));
  // Ranks from the binomial distribution, as SciPy's binom.cdf gives them.
  CHECK(median_rank(5) == 0);
  CHECK(median_rank(6) == 1);
  CHECK(median_rank(8) == 1);
  CHECK(median_rank(9) == 2);
  CHECK(median_rank(20) == 6);
  CHECK(median_rank(100) == 40);
  CHECK(median_rank(2000) == 956);
  CHECK(median_rank(100000) == 49690);
  CHECK(median_rank(7, 0.99) == 0);
  CHECK(median_rank(8, 0.99) == 1);
  CHECK_FALSE(median_interval({1, 2, 3, 4, 5}).known());
  const Interval ten = median_interval({10, 9, 8, 7, 6, 5, 4, 3, 2, 1});
  CHECK(ten.low == 2);
  CHECK(ten.high == 9);
}

TEST_CASE("the median's interval covers a skewed truth as often as it says") {
  std::mt19937_64 random(1);
  std::exponential_distribution<double> skewed(1);
  int covered = 0;
  for (int trial = 0; trial < 2000; ++trial) {
    std::vector<double> samples(15);
    for (double& sample : samples) sample = skewed(random);
    covered += median_interval(samples).contains(std::log(2.0));
  }
  // 15 samples: 96.5 % exactly; four standard deviations of 2000 trials either side.
  CHECK(covered / 2000.0 == Approx(0.9648).margin(0.0165));
}

TEST_CASE("Student's t has its table's values") {
  CHECK(student_t_quantile(0.975, 1) == Approx(12.7062047362).epsilon(1e-9));
  CHECK(student_t_quantile(0.975, 2) == Approx(4.3026527297).epsilon(1e-9));
  CHECK(student_t_quantile(0.975, 3) == Approx(3.1824463053).epsilon(1e-9));
  CHECK(student_t_quantile(0.995, 10) == Approx(3.1692726726).epsilon(1e-9));
  CHECK(student_t_quantile(0.975, 1000) == Approx(1.9623390808).epsilon(1e-9));
  CHECK(student_t_quantile(0.025, 7) == -student_t_quantile(0.975, 7));
  CHECK(student_t_quantile(0.5, 4) == Approx(0).margin(1e-12));
}

TEST_CASE("exact powers are found exactly") {
  const std::vector<double> x{128, 256, 512, 1024, 2048};
  std::vector<double> power, with_offset;
  for (const double value : x) {
    power.push_back(3e-9 * std::pow(value, 1.7));
    with_offset.push_back(4096 + 32 * std::pow(value, 2));
  }
  const PowerFit line = fit_power(x, power);
  CHECK(line.exponent == Approx(1.7).epsilon(1e-12));
  CHECK(line.coefficient == Approx(3e-9).epsilon(1e-10));
  const PowerFit offset = fit_offset_power(x, with_offset);
  CHECK(offset.exponent == Approx(2).epsilon(1e-6));
  CHECK(offset.offset == Approx(4096).epsilon(1e-4));
  CHECK(offset.at(512) == Approx(with_offset[2]).epsilon(1e-6));
}

TEST_CASE("an offset is justified from six points on") {
  CHECK(std::isinf(akaike_corrected(0.01, 5, 3)));
  CHECK(std::isfinite(akaike_corrected(0.01, 6, 3)));
  CHECK(akaike_corrected(0.01, 8, 3) > akaike_corrected(0.01, 8, 2));
}

TEST_CASE("intervals of the exponent cover the truth") {
  const auto [offset, sizes] = GENERATE(
      std::pair(0.0, std::vector<int64_t>{256, 512, 1024, 2048, 4096}),
      std::pair(0.0, std::vector<int64_t>{128, 256, 512, 1024, 2048, 4096, 8192}),
      std::pair(5e-3,
                std::vector<int64_t>{128, 181, 256, 362, 512, 724, 1024, 1448, 2048, 2896, 4096, 8192}));
  std::mt19937_64 random(7);
  constexpr int kTrials = 200;
  int covered = 0, with_offset = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const FitRow fit = time_fit(simulated(offset, 2e-8, 2, 0.03, sizes, random));
    REQUIRE(fit.exponent_ci_low);
    covered += *fit.exponent_ci_low <= 2 && 2 <= *fit.exponent_ci_high;
    with_offset += fit.model == "offset_power";
  }
  CAPTURE(offset, sizes.size(), with_offset);
  CHECK(covered >= 0.90 * kTrials);
  CHECK(covered <= 0.995 * kTrials);
  if (offset > 0) {
    CHECK(with_offset == kTrials);
  } else {
    CHECK(with_offset <= 0.15 * kTrials);
  }
}

TEST_CASE("a wrong growth is called different") {
  std::mt19937_64 random(3);
  const std::vector<int64_t> sizes{256, 512, 1024, 2048, 4096, 8192};
  const FitRow dense = time_fit(simulated(0, 2e-8, 2, 0.02, sizes, random));
  CHECK(dense.verdict == "agrees");
  CHECK(*dense.analytic_exponent == Approx(2));
  CHECK(time_fit(simulated(0, 2e-8, 1.6, 0.02, sizes, random)).verdict == "differs");

  // Work that bends from n^2 towards n: a time between the two analytic exponents agrees with neither.
  Sweep bent = simulated(0, 2e-7, 1.4, 0.002, {256, 512, 1024, 2048}, random);
  for (ResultRow& row : bent.rows) {
    const auto n = static_cast<double>(row.seq_q);
    row.flops_executed = n < 2000 ? n * n : 1024 * n;
  }
  const FitRow between = time_fit(bent);
  CHECK(*between.analytic_exponent + 0.05 < *between.exponent_ci_low);
  CHECK(*between.analytic_exponent_fitted_range - 0.05 > *between.exponent_ci_high);
  CHECK(between.verdict == "differs");
}

TEST_CASE("points are left out by rule and with a reason") {
  std::mt19937_64 random(5);
  Sweep sweep = simulated(0, 1e-10, 2, 0.01, {128, 256, 512, 1024, 2048, 4096, 8192}, random);
  sweep.rows.back().status = Status::timed_out;
  sweep.rows.back().time_s_median.reset();
  const FitRow fit = time_fit(sweep);
  CHECK(fit.points == 4);
  CHECK(fit.excluded == 3);
  CHECK(*fit.from == 512);
  CHECK(*fit.to == 4096);
  CHECK(fit.why_excluded == "8192: timed_out; 128: time below 20 us; 256: time below 20 us");

  // A window of 513: the work grows with n^2 below it and with n above it.
  Sweep window;
  for (int64_t n = 128; n <= 16384; n *= 2) {
    ResultRow row = dense_row("window/cpu", n, 0);
    double pairs = 0;
    for (int64_t i = 0; i < n; ++i) pairs += static_cast<double>(std::min<int64_t>(i, 512) + 1);
    row.flops_executed = 4 * 8 * 64 * pairs;
    row.time_s_median = *row.flops_executed / 5e10;
    window.rows.push_back(row);
  }
  const FitRow linear = fit_series(group_series(window.rows, {}).front(), Quantity::time);
  CHECK(*linear.from == 2048);
  CHECK(linear.points == 4);
  CHECK(linear.verdict == "agrees");
  CHECK(*linear.exponent == Approx(1.05).margin(0.05));
  CHECK(*linear.analytic_exponent == Approx(1).margin(0.05));
}

TEST_CASE("too few points are no fit") {
  std::mt19937_64 random(5);
  Sweep sweep = simulated(0, 2e-8, 2, 0.01, {128, 256, 512}, random);
  sweep.rows[1].status = Status::crashed;
  sweep.rows[1].time_s_median.reset();
  const FitRow fit = time_fit(sweep);
  CHECK(fit.points == 2);
  CHECK(fit.verdict == "too few points");
  CHECK_FALSE(fit.exponent_ci_low);
  sweep.rows.pop_back();
  CHECK(group_series(sweep.rows, sweep.samples).empty());
}

TEST_CASE("memory has its exact exponents") {
  std::vector<ResultRow> rows;
  for (int64_t n = 128; n <= 4096; n *= 2) {
    ResultRow row = dense_row("fused/cpu", n, 1e-6 * static_cast<double>(n));
    row.memory_workspace_planned_bytes = row.memory_workspace_peak_bytes = 65536 + 32 * n;
    rows.push_back(row);
    rows.push_back(dense_row("stored/cpu", n, 1e-6 * static_cast<double>(n)));
    row = dense_row("bare/cpu", n, 1e-6 * static_cast<double>(n));
    row.memory_workspace_planned_bytes = row.memory_workspace_peak_bytes = 0;
    rows.push_back(row);
  }
  for (const FitRow& fit : fit_all(group_series(rows, {}))) {
    if (fit.quantity != "workspace") continue;
    CHECK(fit.verdict == "agrees");
    if (fit.variant == "bare/cpu") {
      CHECK(fit.model == "zero");
      continue;
    }
    const double expected = fit.variant == "fused/cpu" ? 1 : 2;
    CHECK(*fit.exponent == Approx(expected).epsilon(1e-6));
    CHECK(*fit.analytic_exponent == Approx(expected).epsilon(1e-9));
    CHECK(*fit.offset == Approx(fit.variant == "fused/cpu" ? 65536 : 0).margin(1));
  }
}

TEST_CASE("sweeps are told apart by axis") {
  const auto row = [](int64_t heads, int64_t head_dim, int64_t heads_kv) {
    ResultRow r = dense_row("any/cpu", 512, 1e-3);
    r.heads_q = heads;
    r.heads_kv = heads_kv;
    r.d_head = r.d_value = head_dim;
    r.d_model = heads * head_dim;
    r.problem =
        fmt::format("b=1,hq={0},hk={2},nq=512,nk=512,d={1},dv={1},dtype=f32,pass=fwd,mask=none,pos=none",
                    heads, head_dim, heads_kv);
    return r;
  };
  std::vector<ResultRow> rows{row(2, 256, 2),  row(4, 128, 4), row(8, 64, 8), row(16, 64, 16),
                              row(32, 64, 32), row(8, 128, 8), row(8, 32, 8)};
  rows.push_back(row(8, 64, 2));  // another group size
  ResultRow cross = row(16, 32, 16);
  cross.seq_kv = 1024;  // another problem altogether
  cross.problem = "b=1,hq=16,hk=16,nq=512,nk=1024,d=32,dv=32,dtype=f32,pass=fwd,mask=none,pos=none";
  rows.push_back(cross);
  std::map<std::string, std::pair<std::string, std::vector<double>>> found;
  for (const Series& series : group_series(rows, {})) {
    CHECK(found.count(to_text(series.axis)) == 0);
    auto& [setting, values] = found[to_text(series.axis)];
    setting = series.setting;
    for (const Point& point : series.points) values.push_back(point.x);
  }
  REQUIRE(found.size() == 3);
  CHECK(found["d"].second == std::vector<double>{32, 64, 128});
  CHECK(found["h_fixed_width"].second == std::vector<double>{2, 4, 8});
  CHECK(found["h_fixed_head"].second == std::vector<double>{8, 16, 32});
  CHECK(found["h_fixed_width"].first ==
        "b=1,nq=512,nk=512,dtype=f32,pass=fwd,mask=none,pos=none,hq*d=512,threads=2");
}

TEST_CASE("crossovers are found where they are") {
  std::mt19937_64 random(11);
  const Sweep sweep = crossing_sweep(random);
  const std::vector<CrossoverRow> rows = find_crossovers(group_series(sweep.rows, sweep.samples));
  REQUIRE(rows.size() == 3);  // time, workspace, total memory
  const CrossoverRow& time = rows.front();
  CHECK(time.variant_a == "dense/cpu");
  CHECK(time.variant_b == "linear/cpu");
  CHECK(time.verdict == "crosses");
  CHECK(*time.crossover == Approx(900).epsilon(0.05));
  CHECK(time.theory == "crosses");
  CHECK(*time.theory_crossover == Approx(600).epsilon(1e-9));
  CHECK(rows[1].verdict == "equal");
}

TEST_CASE("intervals of a crossover cover the truth") {
  std::mt19937_64 random(13);
  constexpr int kTrials = 200;
  int covered = 0;
  for (int trial = 0; trial < kTrials; ++trial) {
    const Sweep sweep = crossing_sweep(random);
    const CrossoverRow time = find_crossovers(group_series(sweep.rows, sweep.samples)).front();
    covered += time.crossover_ci_low.value_or(0) <= 900 && 900 <= time.crossover_ci_high.value_or(1e9);
  }
  CAPTURE(covered);
  CHECK(covered >= 0.90 * kTrials);
  CHECK(covered < kTrials);
}

TEST_CASE("no crossover within the range is said so") {
  std::vector<ResultRow> apart;
  for (int64_t n = 128; n <= 512; n *= 2) {
    apart.push_back(dense_row("slow/cpu", n, 1e-7 * static_cast<double>(n * n)));
    apart.push_back(dense_row("fast/cpu", n, 1e-8 * static_cast<double>(n * n)));
  }
  const CrossoverRow never = find_crossovers(group_series(apart, {})).front();
  CHECK(never.variant_b == "fast/cpu");
  CHECK(never.verdict == "not within range");
  CHECK_FALSE(never.crossover);
  CHECK(*never.ratio_at_to == Approx(10));
}

TEST_CASE("the last of several crossings counts") {
  const LastCrossing crossing = last_crossing({1, 10, 100, 1000}, {1, -1, -1, 1});
  CHECK(crossing.crossings == 2);
  CHECK(crossing.x == Approx(std::sqrt(1e5)));
  CHECK(last_crossing({1, 10}, {1, 2}).x == 0);
  CHECK(std::isinf(last_crossing({1, 10}, {1, -2}).x));
}

TEST_CASE("tables quote and leave absent cells empty") {
  FitRow row;
  row.variant = "a";
  row.setting = "hq=8,hk=8";
  const std::string csv = table_of(std::vector<FitRow>{row}).csv();
  CHECK(csv.substr(0, 33) == "variant,axis,quantity,unit,settin");
  CHECK(csv.find("\na,,,,\"hq=8,hk=8\",0,0,,,,,,,,,,,,,,,,,,,\n") != std::string::npos);
}

TEST_CASE("the telling numbers are the extremes") {
  std::vector<ResultRow> rows;
  for (int64_t n = 256; n <= 4096; n *= 2) {
    rows.push_back(dense_row("stored/cpu", n, 1e-8 * static_cast<double>(n * n)));
    rows.push_back(dense_row("fused/cpu", n, 4e-6 * static_cast<double>(n)));
    rows.back().memory_workspace_peak_bytes = 0;
  }
  rows.back().error_bound = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Series> sweeps = group_series(rows, {});
  const auto sentences = telling_numbers(rows, fit_all(sweeps), find_crossovers(sweeps));
  REQUIRE(sentences.size() == 5);
  CHECK(sentences[0].find("stored/cpu as n^2.00") != std::string::npos);
  CHECK(sentences[1].find("fused/cpu as n^1.00") != std::string::npos);
  CHECK(sentences[2].find("fused/cpu is faster than stored/cpu from n = 400 [400, 400]") == 0);
  CHECK(sentences[3].find("stored/cpu needs 16.9 times the memory of fused/cpu") == 0);
  CHECK(sentences[4].find("worst error is nan of its bound, fused/cpu") == 0);
}

TEST_CASE("a cache knee is seen, named and left out where enough points remain") {
  const LevelsByThreads levels{{2, {{"L3", 33554432}, {"DRAM", 2e10}}}};
  const auto knee_at = [&](int64_t first_slow, double factor) {
    std::vector<ResultRow> rows;
    for (const int64_t n : {256, 512, 1024, 1536, 2048, 3072, 4096, 8192}) {
      const double time_s = 1e-8 * static_cast<double>(n * n) * (n >= first_slow ? factor : 1);
      rows.push_back(dense_row("stored/cpu", n, time_s));
      rows.back().memory_operands_bytes = 32768 * n;  // leaves L3 at 1536
      rows.back().memory_workspace_planned_bytes = rows.back().memory_workspace_peak_bytes = 0;
    }
    return fit_series(group_series(rows, {}, levels).front(), Quantity::time);
  };
  const FitRow knee = knee_at(1536, 1.5);
  CHECK(knee.knees == "1536: leaves L3, time steps by 1.50");
  CHECK(knee.why_excluded.find("1024: before the cache knee at 1536") != std::string::npos);
  CHECK(*knee.from == 1536);
  CHECK(*knee.exponent == Approx(2).epsilon(1e-9));
  CHECK(knee_at(1536, 1.05).knees.empty());  // no step to speak of
  CHECK(knee_at(3072, 1.5).knees.empty());   // a step, but no level is left there
}

TEST_CASE("the largest n tells the declared cost from another law") {
  const auto held_out = [](double exponent) {
    std::vector<ResultRow> rows;
    for (int64_t n = 256; n <= 8192; n *= 2) {
      const double ripple = n % 1024 == 0 ? 1.01 : 0.99;
      rows.push_back(dense_row("any/cpu", n, 1e-8 * std::pow(static_cast<double>(n), exponent) * ripple));
    }
    return fit_series(group_series(rows, {}).front(), Quantity::time);
  };
  const FitRow declared = held_out(2), other = held_out(1.6);
  CHECK(*declared.held_out_x == 8192);
  CHECK(std::abs(*declared.held_out_error_declared) < 0.03);
  CHECK(other.held_out_better == "fitted");
  CHECK(*other.held_out_error_declared > 0.2);
  CHECK(*other.loglog_exponent == Approx(1.6).margin(0.02));
}

TEST_CASE("local exponents show where a curve bends") {
  std::mt19937_64 random(17);
  const Sweep sweep = simulated(5e-3, 2e-8, 2, 0.01, {64, 256, 1024, 4096, 16384}, random);
  const std::vector<SlopeRow> slopes =
      local_slopes(group_series(sweep.rows, sweep.samples).front(), Quantity::time);
  REQUIRE(slopes.size() == 4);
  CHECK(*slopes.front().exponent < 0.5);
  CHECK(*slopes.back().exponent == Approx(2).margin(0.05));
  CHECK(*slopes.back().declared_exponent == Approx(2));
  CHECK(*slopes.back().exponent_ci_low < *slopes.back().exponent);
  CHECK(*slopes.back().exponent_ci_high > *slopes.back().exponent);
}

TEST_CASE("an offset too small to be seen is in the interval") {
  const std::vector<Point> none;
  std::mt19937_64 random(19);
  const FitRow fit = time_fit(simulated(0, 2e-8, 2, 0.02, {512, 1024, 2048, 4096, 8192, 16384}, random));
  REQUIRE(fit.model == "power");
  CHECK(*fit.exponent_ci_high - *fit.exponent > 1.2 * (*fit.exponent - *fit.exponent_ci_low));
}

TEST_CASE("crossovers along the density of a mask") {
  std::vector<ResultRow> rows;
  for (const int64_t window : {64, 128, 256, 512}) {
    const double density = static_cast<double>(window) / 512;
    for (const bool sparse : {true, false}) {
      ResultRow row = dense_row(sparse ? "sparse/cpu" : "dense/cpu", 1024, sparse ? 4e-3 * density : 1e-3);
      row.mask = fmt::format("causal+window:{}:0", window);
      row.problem = fmt::format(
          "b=1,hq=8,hk=8,nq=1024,nk=1024,d=64,dv=64,dtype=f32,pass=fwd,mask={},pos=none", row.mask);
      row.point = row.problem;
      row.density = density;
      rows.push_back(row);
    }
  }
  const std::vector<CrossoverRow> found = find_crossovers(group_series(rows, {}, {}, {Axis::density}));
  REQUIRE_FALSE(found.empty());
  CHECK(found.front().axis == "density");
  CHECK(found.front().variant_b == "dense/cpu");
  CHECK(*found.front().crossover == Approx(0.25));
  CHECK(found.front().setting.find("mask=causal+window:*:*") != std::string::npos);
  CHECK(group_series(rows, {}).empty());  // no sweep in n, d or h
}
