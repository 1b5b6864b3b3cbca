// Campaigns and checks whose calls are replays, on the GPU that tests/fake_gpu.cpp pretends to be.

#include <nlohmann/json.hpp>

#include "tests/program.h"

using namespace attn;

namespace {

Run sweep_graphs(const ScratchFolder& folder, const std::string& out, std::vector<std::string> more) {
  more.insert(more.begin(), {"--n", "16"});
  return run(folder, sweep(folder / out, more));
}

const char* const kGood = "^fake/cuda/(good|same)$";

}  // namespace

TEST_CASE("rows say how their calls were launched; both kinds have the latency of both") {
  const ScratchFolder folder;
  for (const std::string launch : {"stream", "graph"}) {
    const Run sweep = sweep_graphs(folder, launch,
                                   {"--variants", kGood, "--launch", launch, "--baseline", "fake/cuda/same"});
    INFO(sweep.output << sweep.errors);
    REQUIRE(sweep.exit_code == 0);
    const ResultRow row = rows_by_variant(folder / launch).at("fake/cuda/good");
    REQUIRE(row.status == Status::ok);
    CHECK(row.launch == launch);
    CHECK(row.cache == "cold");
    CHECK(row.operand_sets == 63);
    CHECK(row.deterministic == "yes");
    CHECK(row.ratio_to_baseline.has_value());
    CHECK(row.time_hot_s_median.has_value());
    CHECK(row.latency_s_median.value_or(0) > 0);
    CHECK(row.latency_graph_s_median.value_or(0) > 0);
    CHECK((row.repro.find(" --launch graph") != std::string::npos) == (launch == "graph"));
    CHECK(*row.memory_workspace_peak_bytes == *row.memory_workspace_planned_bytes);
    const auto configuration = nlohmann::json::parse(read_text(folder / launch + "/campaign.json"));
    CHECK(configuration["launch"] == launch);
    check_samples(folder / launch);
  }
  const Run compared = run(folder, {"compare", folder / "stream", folder / "graph"});
  INFO(compared.output << compared.errors);
  CHECK(compared.exit_code != 2);
  CHECK_THAT(compared.output, Catch::Contains("launch: stream in") && Catch::Contains("fake/cuda/good"));
  const Run other = sweep_graphs(folder, "graph", {"--variants", kGood, "--baseline", "fake/cuda/same"});
  CHECK(other.exit_code == 2);
  CHECK_THAT(other.errors, Catch::Contains("its launch is \"graph\", not \"stream\""));
}

TEST_CASE(
    "what cannot be captured is unsupported with a reason, a wrong replay disagrees, the rest goes on") {
  const ScratchFolder folder;
  const Run sweep =
      sweep_graphs(folder, "out",
                   {"--variants", "^(fake/cuda/(good|allocates)|uncaptured/cuda/.*|reference/cpu)$",
                    "--launch", "graph", "--rates", "probe"});
  INFO(sweep.output << sweep.errors);
  REQUIRE(sweep.exit_code == 0);
  const auto rows = rows_by_variant(folder / "out");
  const auto refused = [&](const std::string& variant, const std::string& reason) {
    INFO(variant);
    CHECK(rows.at(variant).status == Status::unsupported);
    CHECK_THAT(rows.at(variant).reason, Catch::StartsWith("cannot be captured: ") && Catch::Contains(reason));
    CHECK(!rows.at(variant).time_s_median);
  };
  refused("fake/cuda/allocates", "allocates device memory in a call");
  refused("uncaptured/cuda/elsewhere", "enqueues nothing on the stream");
  refused("uncaptured/cuda/waits", "not permitted when stream is capturing");
  refused("reference/cpu", "a CPU has no graphs");
  CHECK(rows.at("reference/cpu").launch == "");
  CHECK(rows.at("uncaptured/cuda/waits").launch == "graph");
  CHECK(rows.at("uncaptured/cuda/stale").status == Status::disagrees);
  CHECK(rows.at("fake/cuda/good").status == Status::ok);
}

TEST_CASE("without graphs the same variants are right, and those that cannot be captured lack one latency") {
  const ScratchFolder folder;
  const Run sweep = sweep_graphs(folder, "out", {"--variants", "^(uncaptured/cuda/.*|reference/cpu)$"});
  INFO(sweep.output << sweep.errors);
  REQUIRE(sweep.exit_code == 0);
  const auto rows = rows_by_variant(folder / "out");
  for (const char* variant : {"uncaptured/cuda/elsewhere", "uncaptured/cuda/waits"}) {
    INFO(variant);
    REQUIRE(rows.at(variant).status == Status::ok);
    CHECK(rows.at(variant).latency_s_median.has_value());
    CHECK(!rows.at(variant).latency_graph_s_median);
  }
  CHECK(rows.at("uncaptured/cuda/stale").status == Status::ok);
  CHECK(!rows.at("reference/cpu").latency_s_median);
}

TEST_CASE("check runs on replays, and a variant that only looks right fails") {
  const ScratchFolder folder;
  const std::vector<std::string> problem = {"--problem", "hq=2,nq=9,d=16,mask=causal", "--fill", "normal"};
  const auto check = [&](const char* variants, const char* launch) {
    std::vector<std::string> words = {"check", "--variants", variants, "--launch", launch};
    words.insert(words.end(), problem.begin(), problem.end());
    return run(folder, words);
  };
  CHECK(check("^fake/cuda/good$", "graph").exit_code == 0);
  const Run gradients = run(folder, {"check", "--variants", "^fake/cuda/good$", "--launch", "graph",
                                     "--problem", "hq=2,nq=9,d=16,mask=causal,pass=bwd"});
  INFO(gradients.output << gradients.errors);
  CHECK(gradients.exit_code == 0);
  CHECK(check("^uncaptured/cuda/stale$", "stream").exit_code == 0);
  const Run stale = check("^uncaptured/cuda/stale$", "graph");
  CHECK(stale.exit_code == 1);
  CHECK_THAT(stale.output, Catch::Contains("--launch graph"));  // in the command that reruns it
  const Run waits = check("^uncaptured/cuda/waits$", "graph");
  CHECK(waits.exit_code == 1);
  CHECK_THAT(waits.output, Catch::Contains("cannot be captured"));
  const Run on_cpu = check("^reference/cpu$", "graph");
  CHECK(on_cpu.exit_code == 2);
  CHECK_THAT(on_cpu.errors, Catch::Contains("a CPU has no graphs: use --launch stream"));
  CHECK(check("^fake/cuda/good$", "queue").exit_code == 2);
}

TEST_CASE("graphs of no GPU variant, or another mode, are refused before anything is measured") {
  const ScratchFolder folder;
  const Run on_cpu = sweep_graphs(folder, "out", {"--variants", "^reference/cpu$", "--launch", "graph"});
  CHECK(on_cpu.exit_code == 2);
  CHECK_THAT(on_cpu.errors, Catch::Contains("a CPU has no graphs: use --launch stream"));
  const Run unknown = sweep_graphs(folder, "out", {"--variants", kGood, "--launch", "fast"});
  CHECK(unknown.exit_code == 2);
  CHECK_THAT(unknown.errors, Catch::Contains("--launch 'fast' is unknown: use stream or graph"));
  CHECK(!std::filesystem::exists(folder / "out"));
}
