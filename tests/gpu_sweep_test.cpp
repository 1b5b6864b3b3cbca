// A campaign on a GPU that tests/fake_gpu.cpp pretends to be: rows, samples and environment.

#include <nlohmann/json.hpp>

#include "tests/program.h"

using namespace attn;

namespace {

Run run_on_fake_gpu(const ScratchFolder& folder, const std::string& nvml, const std::string& mode,
                    std::vector<std::string> more) {
  more.insert(more.begin(), {"--n", "16"});
  return run(folder, sweep(folder / "out", more), [&] {
    setenv("ATTN_NVML", nvml.c_str(), 1);
    setenv("ATTN_FAKE_NVML", mode.c_str(), 1);
  });
}

nlohmann::json environment_of(const ScratchFolder& folder) {
  return nlohmann::json::parse(read_text(folder / "out/environment.json"));
}

}  // namespace

TEST_CASE("a GPU row has cold and hot times, clocks, roof and memory; a CPU row is as ever") {
  const ScratchFolder folder;
  const Run sweep = run_on_fake_gpu(
      folder, ATTN_FAKE_NVML_LIBRARY, "",
      {"--variants", "^(fake/cuda/good|fake/cuda/same|reference/cpu)$", "--baseline", "fake/cuda/same"});
  INFO(sweep.output << sweep.errors);
  REQUIRE(sweep.exit_code == 0);
  const auto rows = rows_by_variant(folder / "out");
  const ResultRow& gpu = rows.at("fake/cuda/good");
  REQUIRE(gpu.status == Status::ok);
  CHECK(gpu.cache == "cold");
  CHECK(gpu.operand_sets == 63);  // of 4 x 2 KiB and an LSE, against twice 256 KiB
  CHECK(gpu.time_hot_s_median.has_value());
  CHECK(*gpu.samples_hot >= 1);
  CHECK(gpu.samples_throttled == 0);
  CHECK(gpu.clock_hz_mean == 1755e6);
  CHECK(gpu.ratio_to_baseline.has_value());
  CHECK(gpu.roof_fraction.has_value());
  CHECK(gpu.bound != "");
  CHECK(gpu.deterministic == "yes");
  CHECK(*gpu.memory_process_peak_bytes >= *gpu.memory_operands_bytes + *gpu.memory_workspace_planned_bytes);
  CHECK(*gpu.memory_process_peak_bytes <
        2 * (*gpu.memory_operands_bytes + *gpu.memory_workspace_planned_bytes));
  CHECK_THAT(gpu.memory_method, Catch::Contains("stream-ordered pool"));
  const ResultRow& cpu = rows.at("reference/cpu");
  REQUIRE(cpu.status == Status::ok);
  CHECK(cpu.cache == "");
  CHECK(!cpu.operand_sets);
  CHECK(!cpu.time_hot_s_median);
  CHECK(!cpu.samples_throttled);
  check_samples(folder / "out");
  std::map<std::string, int64_t> counts;
  for (const SampleRow& sample : read_samples(folder / "out/samples.csv")) {
    ++counts[sample.variant + " " + sample.cache + " " + sample.throttled];
  }
  CHECK(counts["fake/cuda/good cold no"] == *gpu.samples);
  CHECK(counts["fake/cuda/good hot no"] == *gpu.samples_hot);
  CHECK(counts["reference/cpu  "] == *cpu.samples);
  const auto environment = environment_of(folder);
  CHECK(environment["gpu"]["name"] == "Fake GPU");
  CHECK(environment["gpu"]["nvml"]["driver"] == "580.65.06");
  CHECK(environment["gpu"]["nvml_missing"].is_null());
  CHECK(environment["sessions"][0]["gpu_start"]["power_w"] == 312.5);
  CHECK(environment["sessions"][0]["gpu_end"]["temperature_c"] == 41);
  CHECK(environment["roofs"]["gpu"]["fma_f32_flops_per_s"].get<double>() == Approx(6e12));
  const Run again = run_on_fake_gpu(
      folder, ATTN_FAKE_NVML_LIBRARY, "",
      {"--variants", "^(fake/cuda/good|fake/cuda/same|reference/cpu)$", "--baseline", "fake/cuda/same"});
  CHECK(again.exit_code == 0);
  check_samples(folder / "out");
}

TEST_CASE("throttled samples are kept and marked") {
  const ScratchFolder folder;
  const Run sweep =
      run_on_fake_gpu(folder, ATTN_FAKE_NVML_LIBRARY, "1:1000000", {"--variants", "^fake/cuda/good$"});
  INFO(sweep.output << sweep.errors);
  REQUIRE(sweep.exit_code == 0);
  const ResultRow row = rows_by_variant(folder / "out").at("fake/cuda/good");
  REQUIRE(row.status == Status::ok);
  CHECK(row.samples_throttled == row.samples);
  CHECK(row.clock_hz_mean == 1200e6);
  for (const SampleRow& sample : read_samples(folder / "out/samples.csv")) {
    CHECK(sample.throttled == "power_cap+sw_thermal");
  }
}

TEST_CASE("without NVML the columns are empty, and one line says why") {
  const ScratchFolder folder;
  const Run sweep =
      run_on_fake_gpu(folder, "/nonexistent/libnvidia-ml.so.1", "", {"--variants", "^fake/cuda/good$"});
  INFO(sweep.output << sweep.errors);
  REQUIRE(sweep.exit_code == 0);
  CHECK_THAT(sweep.output, Catch::Contains("clock, power and temperature stay empty: NVML: /nonexistent"));
  const ResultRow row = rows_by_variant(folder / "out").at("fake/cuda/good");
  REQUIRE(row.status == Status::ok);
  CHECK(!row.clock_hz_mean);
  CHECK(!row.samples_throttled);
  const auto environment = environment_of(folder);
  CHECK(environment["gpu"]["nvml"].is_null());
  CHECK(environment["gpu"]["nvml_missing"].is_string());
  CHECK(environment["sessions"][0]["gpu_start"].is_null());
}

TEST_CASE("a variant that allocates in a call, or loses the device, costs its own row only") {
  const ScratchFolder folder;
  const Run sweep = run_on_fake_gpu(folder, ATTN_FAKE_NVML_LIBRARY, "", {"--variants", "^fake/cuda"});
  INFO(sweep.output << sweep.errors);
  const auto rows = rows_by_variant(folder / "out");
  REQUIRE(rows.size() == 4);
  CHECK(rows.at("fake/cuda/allocates").status == Status::disagrees);
  CHECK(rows.at("fake/cuda/allocates").reason == "allocates 4096 bytes of device memory in a call");
  CHECK(rows.at("fake/cuda/loses").status == Status::crashed);
  CHECK_THAT(rows.at("fake/cuda/loses").reason, Catch::Contains("illegal memory access"));
  CHECK(rows.at("fake/cuda/good").status == Status::ok);
  CHECK(rows.at("fake/cuda/same").status == Status::ok);
  CHECK(read_results(folder / "out/results.csv").size() == 4);
  check_samples(folder / "out");
}

TEST_CASE("attnbench roofs prints those of the GPU") {
  const ScratchFolder folder;
  const Run roofs = run(folder, {"roofs"});
  INFO(roofs.output << roofs.errors);
  REQUIRE(roofs.exit_code == 0);
  CHECK_THAT(roofs.output, Catch::Contains("GPU: Fake GPU"));
  CHECK_THAT(roofs.output, Catch::Contains("bf16 product"));
}
