// Whether a campaign measured again says the same.

#include "harness/analysis/reproduction.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tests/catch.h"

using namespace attn;

namespace {

/// Two variants over n, c n^b each; intervals of 2 % around the medians.
CampaignData campaign(double dense_exponent, double linear_factor, double machine = 1) {
  CampaignData data;
  for (int64_t n = 256; n <= 8192; n *= 2) {
    for (const bool dense : {true, false}) {
      const auto x = static_cast<double>(n);
      const double ripple = n % 1024 == 0 ? 1.004 : 0.996;
      ResultRow row;
      row.variant = dense ? "dense/cpu" : "linear/cpu";
      row.problem =
          fmt::format("b=1,hq=8,hk=8,nq={0},nk={0},d=64,dv=64,dtype=f32,pass=fwd,mask=none,pos=none", n);
      row.point = row.problem;
      row.heads_q = row.heads_kv = 8;
      row.seq_q = row.seq_kv = n;
      row.d_head = row.d_value = 64;
      row.d_model = 512;
      row.threads = 2;
      row.status = Status::ok;
      row.flops_executed = dense ? x * x : 600 * x;
      row.time_s_median =
          machine * ripple * (dense ? 1e-8 * std::pow(x, dense_exponent) : 9e-6 * linear_factor * x);
      row.time_s_ci_low = *row.time_s_median * 0.99;
      row.time_s_ci_high = *row.time_s_median * 1.01;
      row.memory_operands_bytes = 1000 * n;
      row.memory_workspace_planned_bytes = row.memory_workspace_peak_bytes = dense ? 4 * n * n : 0;
      data.rows.push_back(row);
    }
  }
  return data;
}

int64_t count(const std::vector<Finding>& findings, const std::string& figure, Finding::Outcome outcome) {
  return std::count_if(findings.begin(), findings.end(), [&](const Finding& finding) {
    return finding.figure.find(figure) == 0 && finding.outcome == outcome;
  });
}

constexpr auto kAgrees = Finding::Outcome::agrees, kDiffers = Finding::Outcome::differs;

}  // namespace

TEST_CASE("a machine three times as slow reproduces growth, crossover and order") {
  const auto findings = judge_reproduction(campaign(2, 1), campaign(2, 1, 3));
  for (const Finding& finding : findings) {
    CAPTURE(finding.figure, finding.claim, finding.first, finding.second);
    CHECK(finding.outcome != kDiffers);
  }
  CHECK(count(findings, "time_vs_n", kAgrees) == 2);
  CHECK(count(findings, "crossover_map", kAgrees) >= 1);
  CHECK(count(findings, "ranking", kAgrees) >= 5);
  CHECK(count(findings, "status", kAgrees) == 12);
}

TEST_CASE("another growth, another order and another status are not reproduced") {
  const auto grown = judge_reproduction(campaign(2, 1), campaign(1.7, 1));
  CHECK(count(grown, "time_vs_n", kDiffers) == 1);
  const auto ordered = judge_reproduction(campaign(2, 1), campaign(2, 20));
  CHECK(count(ordered, "time_vs_n", kDiffers) == 0);
  CHECK(count(ordered, "ranking", kDiffers) >= 3);
  CHECK(count(ordered, "crossover_map", kDiffers) >= 1);
  CampaignData failed = campaign(2, 1), larger = campaign(2, 1);
  failed.rows[4].status = Status::crashed;
  failed.rows[4].time_s_median.reset();
  CHECK(count(judge_reproduction(campaign(2, 1), failed), "status", kDiffers) == 1);
  for (ResultRow& row : larger.rows) {
    if (row.variant == "dense/cpu") row.memory_workspace_peak_bytes = 4 * row.seq_q;
  }
  CHECK(count(judge_reproduction(campaign(2, 1), larger), "memory_vs_n", kDiffers) >= 1);
}

TEST_CASE("what was not measured again is undecided") {
  CampaignData half = campaign(2, 1);
  std::erase_if(half.rows, [](const ResultRow& row) { return row.variant == "linear/cpu"; });
  const auto findings = judge_reproduction(campaign(2, 1), half);
  CHECK(count(findings, "", kDiffers) == 0);
  CHECK(count(findings, "status", Finding::Outcome::undecided) == 6);
}
