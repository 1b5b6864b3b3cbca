// The terms of a layer's cost against known truth.

#include "harness/analysis/terms.h"

#include <fmt/format.h>

#include <cmath>

#include "harness/analysis/interval.h"
#include "harness/analysis/layers.h"
#include "harness/problem/problem.h"
#include "harness/run/theory.h"
#include "tests/catch.h"
#include "tests/noisy_samples.h"

using namespace attn;

namespace {

struct Campaign {
  std::vector<ResultRow> rows;
  SampleIndex samples;
};

/// Rates of both terms, the noise of one sample, and that of a row, which its samples share.
struct Machine {
  double core_flops_per_s = 50e9, projections_flops_per_s = 100e9;
  double noise = 0.02, between_rows = 0;
};

void add_row(Campaign& campaign, const Machine& machine, const Problem& problem, std::mt19937_64& random) {
  const double all = useful_flops(problem), core = useful_flops(problem.with(Scope::core));
  std::normal_distribution<double> between_rows(0, 1);
  const double truth_s = core / machine.core_flops_per_s + (all - core) / machine.projections_flops_per_s;
  const double time_s = truth_s * std::exp(machine.between_rows * between_rows(random));
  ResultRow row;
  row.variant = "unlinked/cpu";
  row.point = row.problem = problem.text();
  row.status = Status::ok;
  row.scope = problem.scope == Scope::block ? "block" : "core";
  row.heads_q = problem.heads_q;
  row.heads_kv = problem.heads_kv;
  row.seq_q = problem.seq_q;
  row.seq_kv = problem.seq_kv;
  row.d_head = problem.head_dim;
  row.d_value = problem.value_dim;
  row.d_model = problem.model_width();
  row.threads = 1;
  row.flops_useful = row.flops_executed = all;
  const Samples samples = noisy_samples(time_s, machine.noise, random);
  row.time_s_median = median(samples.all());
  campaign.samples[{row.point, row.variant}] = samples;
  campaign.rows.push_back(row);
}

/// A block, and its core unless it is there already.
void add_layer(Campaign& campaign, const Machine& machine, const std::string& text, std::mt19937_64& random) {
  const Problem block = Problem::parse(text + ",scope=block"), core = block.with(Scope::core);
  if (!campaign.samples.count({core.text(), "unlinked/cpu"})) add_row(campaign, machine, core, random);
  add_row(campaign, machine, block, random);
}

/// Width 512, n as given.
Campaign over_n(const Machine& machine, const std::vector<int>& lengths) {
  std::mt19937_64 random(7);
  Campaign campaign;
  for (const int n : lengths) add_layer(campaign, machine, fmt::format("hq=8,nq={},d=64", n), random);
  return campaign;
}

std::vector<TermRow> terms_of(const Campaign& campaign) {
  return find_terms(campaign.rows, campaign.samples, {});
}

const TermRow& find(const std::vector<TermRow>& terms, const std::string& term, const std::string& axis) {
  const TermRow* found = nullptr;
  for (const TermRow& row : terms) {
    if (row.term == term && row.axis == axis) found = &row;
  }
  REQUIRE(found);
  return *found;
}

void check_exponent(const TermRow& row, double truth) {
  INFO(row.term << " along " << row.axis);
  REQUIRE(row.exponent_ci_low);
  CHECK(*row.exponent_ci_low <= truth);
  CHECK(*row.exponent_ci_high >= truth);
  CHECK(*row.exponent == Approx(truth).margin(0.05));
  CHECK(*row.analytic_exponent == Approx(truth));
  CHECK(row.verdict == "agrees");
}

const std::vector<int> kLengths{64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072, 4096};

}  // namespace

TEST_CASE("both terms are found in n, and the n where they cross") {
  const std::vector<TermRow> terms = terms_of(over_n({}, kLengths));
  check_exponent(find(terms, "core", "n"), 2);
  const TermRow& projections = find(terms, "projections", "n");
  check_exponent(projections, 1);
  CHECK(projections.variant == "unlinked/cpu");
  CHECK(projections.d_model == 512);
  CHECK(*projections.flops_per_s == Approx(100e9).epsilon(0.05));
  CHECK(projections.excluded > 0);
  CHECK(projections.why_excluded.find("4096: the core takes 89 % of the block") != std::string::npos);
  CHECK(projections.to < 2500);

  const TermRow& crossing = find(terms, "crossing", "n");  // the core runs at half the rate
  CHECK(*crossing.theory_crossing == Approx(1024));
  CHECK(*crossing.theory_crossing_at_rates == Approx(512).epsilon(0.05));
  CHECK(*crossing.crossing == Approx(512).epsilon(0.05));
  CHECK(*crossing.crossing_ci_low <= 512);
  CHECK(*crossing.crossing_ci_high >= 512);
  CHECK(crossing.verdict == "differs");
}

TEST_CASE("at equal rates the terms cross at twice the width") {
  const Machine equal{80e9, 80e9, 0.02, 0};
  const std::vector<TermRow> terms = terms_of(over_n(equal, kLengths));
  const TermRow& crossing = find(terms, "crossing", "n");
  CHECK(*crossing.crossing == Approx(1024).epsilon(0.05));
  CHECK(crossing.verdict == "agrees");
  const std::vector<TermRow> below = terms_of(over_n(equal, {64, 128, 256}));
  CHECK(find(below, "crossing", "n").verdict == "not within range");
  CHECK_FALSE(find(below, "crossing", "n").crossing);
}

TEST_CASE("the interval of a crossing holds the truth as often as it says") {
  int held = 0;
  constexpr int kTrials = 60;
  const Machine rough{50e9, 100e9, 0.02, 0.05};  // rows differ by more than their samples say
  std::mt19937_64 random(11);
  for (int trial = 0; trial < kTrials; ++trial) {
    Campaign campaign;
    for (const int n : {128, 192, 256, 384, 512, 768, 1024, 1536}) {
      add_layer(campaign, rough, fmt::format("hq=8,nq={},d=64", n), random);
    }
    const std::vector<TermRow> terms = terms_of(campaign);
    const TermRow& row = find(terms, "crossing", "n");
    REQUIRE(row.crossing_ci_low);
    REQUIRE(row.crossing_ci_high);
    held += *row.crossing_ci_low <= 512 && 512 <= *row.crossing_ci_high;
  }
  CHECK(held >= 50);  // of 95 %, fewer than that is a chance of some 1e-3
}

TEST_CASE("both terms are found in the widths and along their whole products") {
  std::mt19937_64 random(3);
  Campaign campaign = over_n({}, {256, 512, 1024});
  for (const int d : {16, 32, 128}) add_layer(campaign, {}, fmt::format("hq=8,nq=512,d={}", d), random);
  for (const int h : {2, 4, 16}) add_layer(campaign, {}, fmt::format("hq={},nq=512,d=64", h), random);
  for (const int width : {256, 1024, 1536, 2048}) {
    add_layer(campaign, {}, fmt::format("hq=8,nq=512,d=64,dm={}", width), random);
  }
  const std::vector<TermRow> terms = terms_of(campaign);
  check_exponent(find(terms, "core", "d"), 1);
  check_exponent(find(terms, "projections", "d"), 2);
  check_exponent(find(terms, "core", "h_fixed_head"), 1);
  check_exponent(find(terms, "projections", "h_fixed_head"), 2);
  check_exponent(find(terms, "projections", "d_o"), 1);
  check_exponent(find(terms, "core", "h n^2 d"), 1);
  check_exponent(find(terms, "projections", "n d d_o"), 1);
  CHECK(find(terms, "projections", "d_o").points == 5);
  CHECK_FALSE(find(terms, "projections", "d_o").d_model);
  for (const TermRow& row : terms) CHECK_FALSE((row.term == "core" && row.axis == "d_o"));
}

TEST_CASE("too few points say so, and without cores there are no terms") {
  const std::vector<TermRow> two = terms_of(over_n({}, {256, 512}));
  CHECK(find(two, "crossing", "n").verdict == "too few points");
  CHECK(find(two, "core", "h n^2 d").verdict == "too few points");
  const TermRow three = find(terms_of(over_n({}, {1024, 4096, 8192})), "projections", "n");
  CHECK(three.verdict == "too few points");
  CHECK(three.points == 1);
  CHECK(three.excluded == 2);

  Campaign campaign = over_n({}, kLengths);
  std::erase_if(campaign.rows, [](const ResultRow& row) { return row.scope == "core"; });
  CHECK(terms_of(campaign).empty());
  Campaign failed = over_n({}, kLengths);
  for (ResultRow& row : failed.rows) {
    if (row.scope != "core") continue;
    row.status = Status::disagrees;
    row.time_s_median.reset();
  }
  CHECK(terms_of(failed).empty());
}

TEST_CASE("blocks are paired with their own cores only") {
  Campaign campaign = over_n({}, {256, 512, 1024});
  const std::vector<Layer> layers = pair_layers(campaign.rows, campaign.samples);
  REQUIRE(layers.size() == 3);
  for (const Layer& layer : layers) {
    CHECK(layer.core.row->seq_q == layer.block.row->seq_q);
    CHECK(layer.core.row->scope == "core");
    CHECK(layer.block.samples != nullptr);
  }
  for (ResultRow& row : campaign.rows) {
    if (row.scope == "core") row.threads = 2;
  }
  CHECK(pair_layers(campaign.rows, campaign.samples).empty());
}
