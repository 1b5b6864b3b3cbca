// Forecasts of bytes and time, and the largest length that fits.

#include <fmt/format.h>

#include <random>

#include "harness/analysis/frontier.h"
#include "harness/forecast/bytes.h"
#include "harness/forecast/rates.h"
#include "harness/registry.h"
#include "harness/run/operands.h"
#include "tests/catch.h"

using namespace attn;

namespace {

/// Declares what is easy to compute by hand: 4 n^2 d FLOPs per head, scratch of n^2 floats per head.
class Declared final : public Variant {
 public:
  explicit Declared(Info info) : Variant(std::move(info)) {}
  Support supports(const Problem& p) const override {
    return p.head_dim == 13 ? Support{"13 is unlucky"} : Support{};
  }
  void plan(const Context&, const Problem& p, Workspace& workspace) const override {
    workspace.take<float>("scores", p.heads_q * p.seq_q * p.seq_kv);
  }
  Cost cost(const Problem& p) const override {
    const auto pairs = static_cast<double>(p.heads_q * p.seq_q * p.seq_kv);
    return {.flops_executed = 4 * static_cast<double>(p.head_dim) * pairs};
  }
  void forward(const Context&, const Problem&, const Forward&, Workspace&) const override {}
};

const Variant& declared(const std::string& name, Device device = Device::cpu, bool books = true) {
  if (const Variant* known = linked_variant(name)) return *known;
  register_variant(std::make_unique<Declared>(Info{.name = name, .device = device, .books_scratch = books}));
  return find_variant(name);
}

/// 100 GFLOP/s on one thread and two.
Roofs some_roofs(double flops_per_s = 100e9) {
  Roofs roofs;
  for (int threads : {1, 2}) roofs.by_threads[threads] = {flops_per_s, 10e9, 0, {{"DRAM", 1e9, 50e9, 50e9}}};
  return roofs;
}

Problem problem_of(int64_t n, const std::string& mask = "none") {
  return Problem::parse(fmt::format("hq=2,nq={},d=64,mask={}", n, mask));
}

double flops_of(const Problem& p) {
  return 4.0 * static_cast<double>(p.head_dim * p.heads_q * p.seq_q * p.seq_kv);
}

/// A row that ran at this share of 100 GFLOP/s.
ResultRow measured(const std::string& variant, const Problem& p, double efficiency) {
  ResultRow row;
  row.variant = variant;
  row.device = "cpu";
  row.problem = p.text();
  row.status = Status::ok;
  row.seq_q = p.seq_q;
  row.seq_kv = p.seq_kv;
  row.heads_q = row.heads_kv = p.heads_q;
  row.d_head = row.d_value = p.head_dim;
  row.d_model = p.model_width();
  row.mask = p.mask.text();
  row.position = p.position.text();
  row.threads = 1;
  row.time_s_median = flops_of(p) / (efficiency * 100e9);
  return row;
}

double predicted_efficiency(const Rates& rates, const Variant& variant, const Problem& p, int threads = 1) {
  return flops_of(p) / 100e9 / rates.predict(variant, p, threads).time_s.value();
}

}  // namespace

TEST_CASE("a variant that was never measured is forecast at its roof") {
  const Rates rates(some_roofs());
  const Problem p = problem_of(512);
  const TimeForecast forecast = rates.predict(declared("declared/cpu"), p, 1);
  CHECK_FALSE(forecast.measured);
  CHECK(forecast.time_s.value() == Approx(flops_of(p) / 100e9));
  CHECK_FALSE(rates.predict(declared("declared/cuda", Device::cuda), p, 1).time_s);
}

TEST_CASE("a measured row gives the efficiency of other lengths, widths and heads") {
  const Variant& variant = declared("declared/cpu");
  Rates rates(some_roofs());
  rates.learn(measured("declared/cpu", problem_of(128), 0.25));
  for (const char* text :
       {"hq=2,nq=4096,d=64", "hq=2,nq=64,d=64", "hq=16,nq=128,d=8", "hq=2,nq=128,nk=999,d=64"}) {
    const Problem p = Problem::parse(text);
    CHECK(rates.predict(variant, p, 1).measured);
    CHECK(predicted_efficiency(rates, variant, p) == Approx(0.25));
  }
  CHECK_FALSE(rates.predict(declared("other/cpu"), problem_of(128), 1).measured);
}

TEST_CASE("the nearest row counts, of equals the latest") {
  const Variant& variant = declared("declared/cpu");
  Rates rates(some_roofs());
  rates.learn(measured("declared/cpu", problem_of(128), 0.1));
  rates.learn(measured("declared/cpu", problem_of(1024), 0.3));
  rates.learn(measured("declared/cpu", problem_of(1024, "causal"), 0.6));
  CHECK(predicted_efficiency(rates, variant, problem_of(256)) == Approx(0.1));
  CHECK(predicted_efficiency(rates, variant, problem_of(4096)) == Approx(0.3));
  CHECK(predicted_efficiency(rates, variant, problem_of(2048, "causal")) == Approx(0.6));
  CHECK(predicted_efficiency(rates, variant, problem_of(128, "causal")) == Approx(0.1));
  CHECK(predicted_efficiency(rates, variant, problem_of(1024, "window:64:0")) == Approx(0.6));
  rates.learn(measured("declared/cpu", problem_of(1024), 0.4));
  CHECK(predicted_efficiency(rates, variant, problem_of(4096)) == Approx(0.4));
}

TEST_CASE("another pass is the last resort") {
  const Variant& variant = declared("declared/cpu");
  Rates rates(some_roofs());
  const Problem backward = problem_of(128).with(Pass::bwd);
  rates.learn(measured("declared/cpu", backward, 0.1));
  CHECK(predicted_efficiency(rates, variant, problem_of(128)) == Approx(0.1));
  rates.learn(measured("declared/cpu", problem_of(8192), 0.5));
  CHECK(predicted_efficiency(rates, variant, problem_of(128)) == Approx(0.5));
}

TEST_CASE("only rows with a time of a variant of this program teach anything") {
  Rates rates(some_roofs());
  ResultRow wrong = measured("declared/cpu", problem_of(128), 0.5);
  declared("declared/cpu");
  wrong.status = Status::disagrees;
  rates.learn(wrong);
  ResultRow timeless = measured("declared/cpu", problem_of(128), 0.5);
  timeless.time_s_median.reset();
  rates.learn(timeless);
  rates.learn(measured("gone/cpu", problem_of(128), 0.5));
  ResultRow no_file = measured("declared/cpu", problem_of(128), 0.5);
  no_file.problem = "hq=2,nq=128,d=64,mask=blocks:/nowhere/mask.txt";
  rates.learn(no_file);
  CHECK_FALSE(rates.knows(declared("declared/cpu"), problem_of(128), 1));
  rates.learn(measured("declared/cpu", problem_of(128), 0.5));
  CHECK(rates.knows(declared("declared/cpu"), problem_of(4096), 1));
  CHECK_FALSE(rates.knows(declared("declared/cpu"), problem_of(128, "causal"), 1));
  CHECK_FALSE(rates.knows(declared("declared/cpu"), problem_of(128), 2));
}

TEST_CASE("rows of another machine count by their efficiency there") {
  Rates rates(some_roofs(400e9));  // four times as fast
  rates.learn(measured("declared/cpu", problem_of(128), 0.5), some_roofs(100e9));
  const Problem p = problem_of(256);
  CHECK(rates.predict(declared("declared/cpu"), p, 1).time_s.value() == Approx(flops_of(p) / (0.5 * 400e9)));
}

TEST_CASE("times of a GPU follow its declared work") {
  const Variant& variant = declared("declared/cuda", Device::cuda);
  Rates rates(some_roofs());
  ResultRow row = measured("declared/cuda", problem_of(128), 0.5);
  row.device = "cuda";
  rates.learn(row);
  CHECK(rates.predict(variant, problem_of(512), 1).time_s.value() == Approx(16 * *row.time_s_median));
}

TEST_CASE("settings differ in kinds, not in numbers") {
  const auto setting = [](const char* mask, int threads) {
    return Rates::setting(problem_of(64, mask), threads);
  };
  CHECK(setting("window:8:8", 1) == setting("window:16:0", 1));
  CHECK(setting("window:8:8", 1) != setting("window:8:8", 2));
  CHECK(setting("window:8:8", 1) != setting("causal+window:8:8", 1));
  CHECK(Rates::setting(problem_of(64), 1) != Rates::setting(problem_of(64).with(Pass::bwd), 1));
}

TEST_CASE("the process grows by operands and workspace in whole pages") {
  const Problem p = problem_of(1000);
  const size_t exact = call_bytes(declared("declared/cpu"), p, 1);
  CHECK(exact == operand_bytes(p) + 4 * 2 * 1000 * 1000);
  const size_t grown = process_growth_bytes(declared("declared/cpu"), p, 1).value();
  CHECK(grown > exact);
  CHECK(grown <= exact + 6 * 2 * 4096);  // q, k, v, o, lse, scratch
  CHECK_FALSE(process_growth_bytes(declared("secret/cpu", Device::cpu, false), p, 1));
  CHECK_FALSE(process_growth_bytes(declared("declared/cuda", Device::cuda), p, 1));
}

TEST_CASE("the largest length is exact") {
  constexpr int64_t kMost = int64_t{1} << 31;
  std::mt19937_64 random(7);
  std::vector<int64_t> truths = {1, 2, 3, 4, 5, 7, 8, 9, 1023, 1024, 1025, kMost - 1, kMost};
  for (int k = 0; k < 200; ++k) truths.push_back(std::uniform_int_distribution<int64_t>(1, kMost)(random));
  for (const int64_t truth : truths) {
    const auto fits = [&](int64_t n) {
      REQUIRE(n >= 1);
      REQUIRE(n <= kMost);
      return n <= truth;
    };
    CHECK(largest_length(fits, kMost) == std::optional(truth));
  }
  CHECK_FALSE(largest_length([](int64_t) { return false; }, kMost));
}

TEST_CASE("the frontier holds the largest n of each memory size") {
  const Variant& variant = declared("declared/cpu");
  CampaignData campaign;
  campaign.rows = {measured("declared/cpu", problem_of(128), 0.25),
                   measured("declared/cpu", problem_of(256), 0.5), measured("gone/cpu", problem_of(128), 0.5),
                   measured("declared/cpu", problem_of(128, "causal"), 0.75)};
  campaign.rows[1].status = Status::timed_out;
  campaign.environment = {
      {"roofs", to_json(some_roofs())},
      {"sessions", {{{"memory_limit_bytes", 1 << 20}}, {{"memory_limit_bytes", 1 << 30}}}}};
  const std::vector<FrontierRow> frontier = find_frontier(campaign);
  REQUIRE(frontier.size() == 2 * 7);
  for (const FrontierRow& row : frontier) {
    INFO(row.setting << " in " << row.memory_bytes);
    const bool causal = row.setting.find("mask=causal") != std::string::npos;
    CHECK(row.variant == "declared/cpu");
    CHECK((row.is_limit == "yes") == (row.memory_bytes == 1 << 30));
    CHECK(row.largest_n_measured == Count(128));
    const auto at = [&](int64_t n) { return problem_of(n, causal ? "causal" : "none"); };
    const auto room = static_cast<size_t>(row.memory_bytes);
    const int64_t n = row.largest_n.value(), checked = row.largest_n_checked.value();
    CHECK(call_bytes(variant, at(n), 1) == static_cast<size_t>(row.bytes.value()));
    CHECK(call_bytes(variant, at(n), 1) <= room);
    CHECK(call_bytes(variant, at(n + 1), 1) > room);
    CHECK(row.limited_by == "memory");
    CHECK(shared_bytes(at(checked)) + variant_bytes(variant, at(checked), 1) <= room);
    CHECK(shared_bytes(at(checked + 1)) + variant_bytes(variant, at(checked + 1), 1) > room);
    CHECK(row.time_s_predicted.value() == Approx(flops_of(at(n)) / ((causal ? 0.75 : 0.25) * 100e9)));
  }
}

TEST_CASE("lengths too short for their padding do not end the search") {
  CampaignData campaign;
  campaign.rows = {measured("declared/cpu", problem_of(128, "padding:100"), 0.5)};
  campaign.environment = {{"sessions", {{{"memory_limit_bytes", 100}}}}};
  const std::vector<FrontierRow> frontier = find_frontier(campaign);
  REQUIRE(frontier.size() == 7);
  CHECK_FALSE(frontier[0].largest_n);  // 100 bytes
  CHECK(frontier[0].limited_by.empty());
  const Problem longest = problem_of(frontier[1].largest_n.value(), "padding:100");
  CHECK(call_bytes(declared("declared/cpu"), longest, 1) <= size_t{8} << 30);
  CHECK_FALSE(frontier[1].time_s_predicted);  // no roofs, so no efficiency
}

TEST_CASE("only self-attention has a frontier in n") {
  CampaignData campaign;
  campaign.rows = {measured("declared/cpu", problem_of(128), 0.5)};
  campaign.rows[0].seq_kv = 64;
  CHECK(find_frontier(campaign).empty());
}
