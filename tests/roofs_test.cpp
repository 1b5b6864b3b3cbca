// Roofs: which one limits, which memory is walked over, and that measuring them yields usable numbers.

#include "harness/measure/roofs.h"
#include "harness/measure/environment.h"
#include "harness/measure/roof_levels.h"
#include "harness/run/theory.h"
#include "tests/catch.h"

using namespace attn;

namespace {

constexpr int64_t kKiB = 1024, kMiB = 1024 * kKiB, kGiB = 1024 * kMiB;

const RoofLimits kLimits{
    .fma_flops_per_s = 100, .exps_per_s = 10, .levels = {{64, 1000}, {1024, 100}, {1e6, 1}}};

Limit limit(const Work& work) { return limit_of(work, kLimits).value(); }

/// Two cores of a server, as its virtual machine shows them.
const std::vector<Cache> kTwoCores = {
    {"L1d", 32 * kKiB, 64, 2}, {"L2", 1 * kMiB, 64, 2}, {"L3", 32 * kMiB, 64, 1}};

}  // namespace

TEST_CASE("the limit is the longest of FLOPs, exponentials and bytes") {
  CHECK(limit({.flops = 200, .exps = 10, .bytes = 1000}).bound == Bound::compute);
  CHECK(limit({.flops = 200, .exps = 10, .bytes = 1000}).time_s == Approx(2));
  CHECK(limit({.flops = 200, .exps = 30, .bytes = 1000}).bound == Bound::exp);
  CHECK(limit({.flops = 200, .exps = 30, .bytes = 1000}).time_s == Approx(3));
  CHECK(limit({.flops = 200, .exps = 30, .bytes = 4000}).bound == Bound::memory);
  CHECK(limit({.flops = 200, .exps = 30, .bytes = 4000}).time_s == Approx(4));
  CHECK(to_text(Bound::compute) == "compute");
  CHECK(to_text(Bound::exp) == "exp");
  CHECK(to_text(Bound::memory) == "memory");
}

TEST_CASE("bytes move at the bandwidth of the smallest level that holds them, the last where none does") {
  const auto seconds = [](double held) { return limit({.bytes = 1000, .held_bytes = held}).time_s; };
  CHECK(seconds(64) == Approx(1));
  CHECK(seconds(65) == Approx(10));
  CHECK(seconds(1024) == Approx(10));
  CHECK(seconds(1025) == Approx(1000));
  CHECK(seconds(1e9) == Approx(1000));
}

TEST_CASE("there is no limit where a roof is unknown") {
  CHECK(!limit_of({.flops = 1}, {}));
  CHECK(!limit_of({.flops = 1}, {.fma_flops_per_s = 1, .exps_per_s = 1}));
  CHECK(!limit_of({.flops = 1}, {.fma_flops_per_s = 1, .levels = {{1, 1}}}));
  CHECK(!limit_of({.flops = 1}, {.exps_per_s = 1, .levels = {{1, 1}}}));
}

TEST_CASE("useful exponentials: one per visible pair and query head, whatever the pass") {
  CHECK(useful_exps(Problem::parse("b=2,hq=4,hk=2,nq=8,nk=16,d=4")) == 2 * 4 * 8 * 16);
  CHECK(useful_exps(Problem::parse("hq=3,nq=8,d=4,mask=causal")) == 3 * 36);
  CHECK(useful_exps(Problem::parse("hq=3,nq=8,d=4,mask=causal,pass=bwd")) == 3 * 36);
}

TEST_CASE("levels: shares of the caches, main memory last") {
  const auto one = roof_levels(kTwoCores, 64 * kGiB, 32 * kGiB, 1);
  REQUIRE(one.size() == 4);
  CHECK(one[0].name == "L1");
  CHECK(one[0].bytes == 32 * kKiB);
  CHECK(one[0].bytes_of_thread == 16 * kKiB);
  CHECK(one[1].bytes_of_thread == 512 * kKiB);
  CHECK(one[2].bytes_of_thread == 8 * kMiB);
  CHECK(one[3].name == "DRAM");
  CHECK(one[3].bytes == 64 * kGiB);
  CHECK(one[3].bytes_of_thread == 256 * kMiB);
  const auto two = roof_levels(kTwoCores, 64 * kGiB, 32 * kGiB, 2);
  CHECK(two[0].bytes == 64 * kKiB);
  CHECK(two[0].bytes_of_thread == 16 * kKiB);
  CHECK(two[2].bytes == 32 * kMiB);  // there is one
  CHECK(two[2].bytes_of_thread == 4 * kMiB);
  CHECK(two[3].bytes_of_thread == 128 * kMiB);
}

TEST_CASE("levels: what is walked over does not fit into the level below") {
  const std::vector<Cache> eight_cores = {
      {"L1d", 32 * kKiB, 64, 8}, {"L2", 1 * kMiB, 64, 8}, {"L3", 32 * kMiB, 64, 1}};
  const auto levels = roof_levels(eight_cores, 64 * kGiB, 32 * kGiB, 8);
  CHECK(levels[2].bytes_of_thread > 1 * kMiB);
  CHECK(8 * levels[2].bytes_of_thread < 32 * kMiB);
}

TEST_CASE("a cache is shared evenly by its cores") {
  const Topology clusters{1, 8, 8, {{"L1d", 64 * kKiB, 64, 8, 1}, {"L2", 2 * kMiB, 64, 2, 4}}};
  CHECK(clusters.bytes_of_core("L1d") == 64 * kKiB);
  CHECK(clusters.bytes_of_core("L2") == 512 * kKiB);
  CHECK(clusters.bytes_of_core("L3") == 0);
}

TEST_CASE("the topology of this machine is possible") {
  const Topology& machine = topology();
  CHECK(&machine == &topology());
  CHECK(machine.hardware_threads >= 1);
  for (const Cache& cache : machine.caches) {
    CHECK(cache.count >= 1);
    CHECK(cache.count <= machine.hardware_threads);
    CHECK(cache.cores >= 1);
    CHECK(cache.cores <= machine.hardware_threads);
    CHECK(cache.bytes >= 1 * kKiB);
  }
}

TEST_CASE("levels: absent caches are left out, many threads and little memory are survived") {
  const auto plain = roof_levels({}, 4 * kGiB, 2 * kGiB, 1);
  REQUIRE(plain.size() == 1);
  CHECK(plain[0].name == "DRAM");
  for (const RoofLevel& level : roof_levels(kTwoCores, 4 * kGiB, 0, 1000)) CHECK(level.bytes_of_thread > 0);
  CHECK(roof_levels(kTwoCores, 4 * kGiB, 400 * kMiB, 1)[3].bytes_of_thread == 100 * kMiB);
}

TEST_CASE("measured roofs are positive, cover the threads asked for, and read back the same") {
  const Roofs roofs = measure_roofs({2}, false);
  CHECK(!roofs.target.empty());
  for (int threads : {1, 2, available_threads()}) CHECK(roofs.by_threads.count(threads) == 1);
  for (const auto& [threads, measured] : roofs.by_threads) {
    CHECK(measured.fma_f32_flops_per_s > 1e8);
    CHECK(measured.exp_f32_per_s > 1e6);
    CHECK(measured.sgemm_flops_per_s > 1e8);
    REQUIRE(!measured.levels.empty());
    CHECK(measured.levels.back().level == "DRAM");
    double below = 0;
    for (const LevelRoof& level : measured.levels) {
      CHECK(level.bytes > below);
      CHECK(level.read_bytes_per_s > 1e7);
      CHECK(level.copy_bytes_per_s > 1e7);
      below = level.bytes;
    }
    CHECK(roofs.limits(threads).levels.size() == measured.levels.size());
  }
  CHECK(roofs.limits(12345).levels.empty());
  CHECK(to_json(roofs_from_json(to_json(roofs))) == to_json(roofs));
  nlohmann::json older = to_json(roofs);
  older["by_threads"][0].erase("sgemm_flops_per_s");
  CHECK(to_json(roofs_from_json(older))["by_threads"][0]["sgemm_flops_per_s"].is_null());
}
