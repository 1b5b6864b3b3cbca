// Two campaigns against each other: what is called a change, what is refused.

#include "harness/analysis/compare.h"

#include <fmt/format.h>

#include <cmath>

#include "harness/analysis/interval.h"
#include "tests/catch.h"

using namespace attn;

namespace {

/// Eight points of two variants with samples of 2 % noise; `factor` multiplies the time of variant a at point
/// k.
CampaignData campaign(uint64_t seed, double (*factor)(int k)) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> noise(0, 0.02);
  CampaignData data;
  data.dir = fmt::format("campaign {}", seed);
  data.environment = {{"cpu", {{"model", "one"}}}, {"build", {{"flags", "-O3"}}}};
  for (int k = 0; k < 8; ++k) {
    for (const char* variant : {"a/cpu", "b/cpu"}) {
      ResultRow row;
      row.variant = variant;
      row.problem = row.point = fmt::format("nq={}", 128 << k);
      row.threads = 2;
      row.status = Status::ok;
      const double truth = 1e-4 * (1 << k) * (row.variant == "a/cpu" ? factor(k) : 1);
      Samples samples;
      for (int round = 0; round < 20; ++round) samples.add(0, round, truth * std::exp(noise(random)));
      row.time_s_median = median(samples.all());
      row.samples = 20;
      data.samples[{row.point, row.variant}] = samples;
      data.rows.push_back(row);
    }
  }
  return data;
}

double unchanged(int) { return 1; }
double slower_everywhere(int) { return 1.15; }
double much_faster_at_one(int k) { return k == 3 ? 0.5 : 1; }

const ComparedRow& row_of(const Comparison& comparison, const std::string& variant,
                          const std::string& problem) {
  const auto found =
      std::find_if(comparison.rows.begin(), comparison.rows.end(),
                   [&](const ComparedRow& row) { return row.variant == variant && row.problem == problem; });
  REQUIRE(found != comparison.rows.end());
  return *found;
}

}  // namespace

TEST_CASE("p values are adjusted as Holm says") {
  const std::vector<double> adjusted = holm_adjusted({0.01, 0.04, 0.03, 0.005});
  CHECK(adjusted[0] == Approx(0.03));
  CHECK(adjusted[1] == Approx(0.06));
  CHECK(adjusted[2] == Approx(0.06));
  CHECK(adjusted[3] == Approx(0.02));
  CHECK(holm_adjusted({0.9, 0.8}) == std::vector<double>{1, 1});
}

TEST_CASE("Student's upper tail is that of its table") {
  CHECK(student_t_upper(2.7764451052, 4) == Approx(0.025).epsilon(1e-8));
  CHECK(student_t_upper(-2.7764451052, 4) == Approx(0.975).epsilon(1e-8));
  CHECK(student_t_upper(0, 7) == Approx(0.5));
}

TEST_CASE("no change is no alarm") {
  const Comparison none = compare_campaigns(campaign(1, unchanged), campaign(2, unchanged), 0.02);
  CHECK(none.rows.size() == 18);  // and one for each variant
  CHECK_FALSE(none.regression());
  for (const ComparedRow& row : none.rows) {
    CHECK((row.verdict == "same" || row.verdict == "unclear"));
    CHECK(*row.ratio == Approx(1).margin(0.05));
    CHECK(*row.ratio_ci_low < *row.ratio);
    CHECK(*row.ratio_ci_high > *row.ratio);
  }
}

TEST_CASE("a variant that is slower everywhere is found, and the other not") {
  const Comparison slower = compare_campaigns(campaign(1, unchanged), campaign(2, slower_everywhere), 0.02);
  CHECK(row_of(slower, "a/cpu", "all 8 points").verdict == "slower");
  CHECK(*row_of(slower, "a/cpu", "all 8 points").ratio == Approx(1.15).margin(0.03));
  CHECK(row_of(slower, "b/cpu", "all 8 points").verdict != "slower");
  CHECK(slower.regression());
  const Comparison faster = compare_campaigns(campaign(2, slower_everywhere), campaign(1, unchanged), 0.02);
  CHECK(row_of(faster, "a/cpu", "all 8 points").verdict == "faster");
  CHECK_FALSE(faster.regression());
  // The same change, where it is too small to matter.
  CHECK_FALSE(compare_campaigns(campaign(1, unchanged), campaign(2, slower_everywhere), 0.2).regression());
}

TEST_CASE("what moves every variant is the machine's") {
  CampaignData slow = campaign(2, slower_everywhere);
  for (ResultRow& row : slow.rows) {
    if (row.variant == "b/cpu") *row.time_s_median *= 1.15;
  }
  const Comparison moved = compare_campaigns(campaign(1, unchanged), slow, 0.02);
  CHECK_FALSE(moved.regression());
  CHECK(moved.shared == Approx(1.15).margin(0.02));
  CHECK(compare_campaigns(campaign(1, unchanged), campaign(2, slower_everywhere), 0.02).shared < 1.02);
}

TEST_CASE("a row of fewer than six samples is not judged") {
  CampaignData few = campaign(2, much_faster_at_one);
  for (ResultRow& row : few.rows) row.samples = 5;
  const Comparison comparison = compare_campaigns(campaign(1, unchanged), few, 0.02);
  CHECK(row_of(comparison, "a/cpu", "nq=1024").verdict == "unclear");
  CHECK(*row_of(comparison, "a/cpu", "nq=1024").ratio == Approx(0.5).margin(0.03));
}

TEST_CASE("a large change at one point is found there") {
  const Comparison one = compare_campaigns(campaign(1, unchanged), campaign(2, much_faster_at_one), 0.02);
  CHECK(row_of(one, "a/cpu", "nq=1024").verdict == "faster");
  CHECK(row_of(one, "a/cpu", "nq=2048").verdict != "faster");
  CHECK(row_of(one, "a/cpu", "all 8 points").verdict != "faster");
}

TEST_CASE("rows that fail in one campaign are broken or repaired, points of one are listed") {
  CampaignData a = campaign(1, unchanged), b = campaign(2, unchanged);
  const auto fail = [](ResultRow& row) {
    row.status = Status::crashed;
    row.time_s_median.reset();
  };
  fail(b.rows[0]);  // a/cpu at 128
  fail(a.rows[3]);  // b/cpu at 256
  a.rows.back().problem = "nq=9";
  const Comparison comparison = compare_campaigns(a, b, 0.02);
  CHECK(row_of(comparison, "a/cpu", "nq=128").verdict == "broken");
  CHECK(row_of(comparison, "b/cpu", "nq=256").verdict == "repaired");
  CHECK(comparison.regression());
  CHECK(comparison.only_in_a == std::vector<std::string>{"b/cpu at nq=9, threads=2"});
  CHECK(comparison.only_in_b == std::vector<std::string>{"b/cpu at nq=16384, threads=2"});
}

TEST_CASE("what cannot be compared is refused with the reason") {
  const CampaignData a = campaign(1, unchanged);
  CampaignData b = campaign(2, unchanged);
  CHECK(why_not_comparable(a, b).empty());
  b.environment["cpu"]["model"] = "two";
  CHECK(why_not_comparable(a, b) == "the CPU differs: \"one\" in campaign 1, \"two\" in campaign 2");
  b = campaign(2, unchanged);
  b.environment["build"]["flags"] = "-O0";
  CHECK(why_not_comparable(a, b).find("the set of compiler flags differs") == 0);
  b = campaign(2, unchanged);
  b.configuration = {{"fill", "peaked"}};
  CHECK(why_not_comparable(a, b).find("the fill of the inputs differs") == 0);
  b = campaign(2, unchanged);
  for (ResultRow& row : b.rows) row.threads = 4;
  CHECK(why_not_comparable(a, b) == "no number of threads is in both");
  CHECK(compare_campaigns(a, b, 0.02).only_in_a.empty());  // forced: matched without them
  b = campaign(2, unchanged);
  for (ResultRow& row : b.rows) row.problem += ",other=1";
  CHECK(why_not_comparable(a, b) == "no problem and variant is in both");
  b.environment = nullptr;
  CHECK(why_not_comparable(a, b).find("campaign 2 has no environment.json") == 0);
}
