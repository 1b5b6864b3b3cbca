// What measuring on a GPU decides on the host: sets of operands, memory, roofs, and the row made of cold, hot
// and throttled samples.

#include <set>

#include "harness/campaign/pool.h"
#include "harness/measure/device_memory.h"
#include "harness/measure/roofs.h"
#include "harness/measure/rounds.h"
#include "harness/run/binding.h"
#include "harness/run/rotation.h"
#include "tests/catch.h"
#include "tests/fake_device.h"

using namespace attn;

namespace {

constexpr size_t kMiB = size_t{1} << 20;

/// Writes to every element of o the sum of q's first row, and remembers where its operands lay.
class Recorder final : public Variant {
 public:
  Recorder() : Variant({.name = "recorder", .device = Device::cuda}) {}
  Support supports(const Problem&) const override { return {}; }
  void plan(const Context&, const Problem&, Workspace& workspace) const override {
    workspace.take<float>("scratch", 100);
  }
  Cost cost(const Problem&) const override { return {}; }
  void forward(const Context&, const Problem& p, const Forward& args, Workspace& workspace) const override {
    workspace.take<float>("scratch", 100);
    calls.push_back(args.q.row<float>(0, 0, 0));
    float sum = 0;
    for (int64_t c = 0; c < p.head_dim; ++c) sum += args.q.row<float>(0, 0, 0)[c];
    for (int64_t i = 0; i < p.seq_q; ++i) {
      for (int64_t c = 0; c < p.value_dim; ++c) args.o.row<float>(0, i, 0)[c] = sum;
      args.lse[i] = sum;
    }
  }
  mutable std::vector<const float*> calls;
};

const Problem kProblem = Problem::parse("hq=1,nq=4,d=64");
constexpr size_t kSet = 4 * 1024 + 256;  // q, k, v and o of 1 KiB, the LSE padded

}  // namespace

TEST_CASE("sets of operands: together at least twice the cache, one where one is so large") {
  CHECK(rotating_sets(100, 0) == 1);
  CHECK(rotating_sets(1 * kMiB, 50 * kMiB) == 100);
  CHECK(rotating_sets(1 * kMiB + 1, 50 * kMiB) == 100);
  CHECK(rotating_sets(1 * kMiB - 1, 50 * kMiB) == 101);
  CHECK(rotating_sets(60 * kMiB, 50 * kMiB) == 2);
  CHECK(rotating_sets(100 * kMiB, 50 * kMiB) == 1);
  CHECK(rotating_sets(100 * kMiB - 1, 50 * kMiB) == 2);
  CHECK(rotating_sets(0, kMiB) == 2 << 20);
  for (size_t set : {1000, 4096, 99999}) {
    const auto sets = static_cast<size_t>(rotating_sets(set, 3 * kMiB));
    CHECK(sets * set >= 6 * kMiB);
    CHECK((sets - 1) * set < 6 * kMiB);
  }
}

TEST_CASE("cold calls take the sets in turn, also across samples; hot ones stay on the first") {
  FakeDevice device(kSet * 5 / 2);  // five sets
  const Recorder variant;
  const Inputs<float> inputs = make_inputs(kProblem, Fill::normal, 1);
  {
    Binding binding(variant, kProblem, inputs, {.api = &device});
    CHECK(binding.operand_sets() == 1);
    binding.run();
    const Outputs<float> before = binding.outputs();
    binding.make_rotation();
    REQUIRE(binding.operand_sets() == 5);
    variant.calls.clear();
    for (int sample = 0; sample < 20; ++sample) binding.time_s(1, CacheState::cold);
    REQUIRE(variant.calls.size() == 20);
    for (size_t k = 5; k < 20; ++k) CHECK(variant.calls[k] == variant.calls[k - 5]);
    CHECK(std::set<const float*>(variant.calls.begin(), variant.calls.end()).size() == 5);
    variant.calls.clear();
    binding.time_s(7, CacheState::hot);
    binding.run();
    const std::set<const float*> hot(variant.calls.begin(), variant.calls.end());
    CHECK(hot.size() == 1);
    binding.poison_outputs();
    binding.run();
    CHECK(same_bits(before, binding.outputs()));
    variant.calls.clear();
    bool asked = false;
    binding.time_s(5, CacheState::cold, [&] { asked = true; });
    CHECK(asked);
    for (const float* q : variant.calls) {  // every set holds the same values
      CHECK(std::equal(q, q + 64, inputs.q.begin()));
    }
  }
  CHECK(device.books.used == 0);
}

TEST_CASE("an operand set as large as the cache twice is not copied") {
  FakeDevice device(kSet / 2);
  const Recorder variant;
  Binding binding(variant, kProblem, make_inputs(kProblem, Fill::normal, 1), {.api = &device});
  const size_t used = device.books.used;
  binding.make_rotation();
  CHECK(binding.operand_sets() == 1);
  CHECK(device.books.used == used);
}

TEST_CASE("guards and poison work on any device") {
  FakeDevice device(0);
  const Recorder variant;
  Binding binding(variant, kProblem, make_inputs(kProblem, Fill::normal, 1),
                  {.guarded = true, .api = &device});
  binding.run();
  CHECK(binding.overruns().empty());
  const_cast<float*>(variant.calls.back())[kProblem.seq_q * kProblem.head_dim] = 0;
  CHECK(binding.overruns() == std::vector<std::string>{"q"});
}

TEST_CASE("device memory: what binding and calling take, to the byte, and what calls allocate") {
  FakeDevice device(0);
  DeviceBuffer earlier(device, 5000);
  DevicePeakProbe probe(device);
  const Recorder variant;
  Binding binding(variant, kProblem, make_inputs(kProblem, Fill::normal, 1), {.api = &device});
  probe.arm();
  binding.run();
  const Footprint footprint = binding.footprint();
  CHECK(footprint.workspace_planned == 400);
  const size_t padding = 512 - 400;  // the workspace hands out multiples of 256 bytes
  CHECK(*probe.growth_bytes() ==
        static_cast<int64_t>(footprint.operands + footprint.workspace_planned + padding));
  CHECK(*probe.allocated_bytes() == 0);
  { DeviceBuffer inside(device, 1234); }
  CHECK(*probe.allocated_bytes() == 1234);
  CHECK(*probe.growth_bytes() ==
        static_cast<int64_t>(footprint.operands + footprint.workspace_planned + padding + 1234));
  device.books.outside += 2 * kMiB;
  CHECK(*probe.growth_bytes() > static_cast<int64_t>(2 * kMiB));
  probe.arm();
  CHECK(*probe.allocated_bytes() == 0);
  DevicePeakProbe none(device_api(Device::cpu));
  none.arm();
  CHECK(!none.growth_bytes());
  CHECK(!none.allocated_bytes());
}

namespace {

/// Does a known amount a call; without a BLAS, no products.
class FakeKernels final : public GpuRoofKernels {
 public:
  FakeKernels(FakeDevice& device, bool blas) : device_(device), blas_(blas) {}
  double multiply_adds() override { return take(1e-3, 6e10); }
  double product(Arithmetic arithmetic) override {
    if (!blas_) return 0;
    return take(2e-3, arithmetic == Arithmetic::f32 ? 1e11 : arithmetic == Arithmetic::tf32 ? 8e11 : 1.6e12);
  }
  double read() override { return take(1e-3, 3e9); }
  double copy() override { return take(1e-3, 2.5e9); }
  double ex2_approx() override { return take(1e-3, 4e9); }
  double exp2f() override { return take(1e-3, 2e9); }
  double launch() override { return take(2e-6, 1); }

 private:
  double take(double seconds, double amount) {
    device_.seconds_per_call = seconds;
    return amount;
  }
  FakeDevice& device_;
  bool blas_;
};

}  // namespace

TEST_CASE("GPU roofs are amounts over seconds, and 0 where the build lacks a library") {
  FakeDevice device(0);
  FakeKernels kernels(device, true), without(device, false);
  const GpuRoofs roofs = measure_gpu_roofs(device, kernels);
  CHECK(roofs.gemm_bf16_flops_per_s == Approx(8e14));
  CHECK(roofs.gemm_f16_flops_per_s == Approx(8e14));
  CHECK(roofs.gemm_tf32_flops_per_s == Approx(4e14));
  CHECK(roofs.gemm_f32_flops_per_s == Approx(5e13));
  CHECK(roofs.fma_f32_flops_per_s == Approx(6e13));
  CHECK(roofs.read_bytes_per_s == Approx(3e12));
  CHECK(roofs.copy_bytes_per_s == Approx(2.5e12));
  CHECK(roofs.ex2_approx_per_s == Approx(4e12));
  CHECK(roofs.exp2f_per_s == Approx(2e12));
  CHECK(roofs.launch_s == Approx(2e-6));
  const GpuRoofs fewer = measure_gpu_roofs(device, without);
  CHECK(fewer.gemm_bf16_flops_per_s == 0);
  CHECK(fewer.fma_f32_flops_per_s == Approx(6e13));
}

TEST_CASE("a GPU row's limit is that of its arithmetic") {
  GpuRoofs roofs{.fma_f32_flops_per_s = 60,
                 .gemm_f32_flops_per_s = 50,
                 .gemm_tf32_flops_per_s = 400,
                 .gemm_bf16_flops_per_s = 800,
                 .gemm_f16_flops_per_s = 780,
                 .read_bytes_per_s = 3,
                 .copy_bytes_per_s = 2.5,
                 .ex2_approx_per_s = 4,
                 .exp2f_per_s = 2,
                 .memory_bytes = 1e9};
  CHECK(roofs.limits(Arithmetic::f32).fma_flops_per_s == 60);
  CHECK(roofs.limits(Arithmetic::tf32).fma_flops_per_s == 400);
  CHECK(roofs.limits(Arithmetic::tf32x3).fma_flops_per_s == Approx(400.0 / 3));
  CHECK(roofs.limits(Arithmetic::bf16).fma_flops_per_s == 800);
  CHECK(roofs.limits(Arithmetic::f16).fma_flops_per_s == 780);
  CHECK(roofs.limits(Arithmetic::f16).exps_per_s == 4);
  CHECK(roofs.limits(Arithmetic::f16).levels.at(0).read_bytes_per_s == 3);
  CHECK(arithmetic_of({.name = "flash/cuda/mma"}, Dtype::bf16) == Arithmetic::bf16);
  CHECK(arithmetic_of({.name = "flash/cuda/tf32x3"}, Dtype::f32) == Arithmetic::tf32x3);
  CHECK(arithmetic_of({.name = "a", .tags = {"tf32"}}, Dtype::f32) == Arithmetic::tf32);
  CHECK(arithmetic_of({.name = "a", .tags = {"tf32x3"}}, Dtype::f32) == Arithmetic::tf32x3);
  CHECK(arithmetic_of({.name = "flash/cuda/simt"}, Dtype::f32) == Arithmetic::f32);
  CHECK(arithmetic_of({.name = "flash/cuda/tf32x3"}, Dtype::f16) == Arithmetic::f16);
  const Recorder variant;
  Roofs all{.gpu = roofs};
  CHECK(all.limits(variant, kProblem, 1).fma_flops_per_s == 60);
  roofs.gemm_bf16_flops_per_s = 0;
  CHECK(!limit_of({.flops = 1}, roofs.limits(Arithmetic::bf16)));
  all.gpu.reset();
  CHECK(!limit_of({.flops = 1}, all.limits(variant, kProblem, 1)));
}

TEST_CASE("GPU roofs read back as they were written, what is not known is null") {
  Roofs roofs{.target = "none", .gpu = GpuRoofs{.fma_f32_flops_per_s = 6e13, .launch_s = 2e-6}};
  const nlohmann::json json = to_json(roofs);
  CHECK(json["gpu"]["launch_s"] == 2e-6);
  CHECK(json["gpu"]["gemm_bf16_flops_per_s"].is_null());
  CHECK(to_json(roofs_from_json(json)) == json);
  nlohmann::json older = json;
  older.erase("gpu");
  CHECK(!roofs_from_json(older).gpu);
}

TEST_CASE("a sample is long against the step of its own clock, and carries its clock's reading") {
  const ClockReading reading{1.2e9, "power_cap"};
  const auto series = time_rounds({{.name = "gpu",
                                    .time_s = [](int64_t calls) { return 1e-6 * static_cast<double>(calls); },
                                    .clock_step_s = 0.5e-6,
                                    .clock = [&] { return reading; }}},
                                  {.budget_s = 1});
  CHECK(series[0].calls_per_sample >= 500);
  CHECK(series[0].calls_per_sample < 1500);
  CHECK(series[0].samples.at(0).clock_hz == 1.2e9);
  CHECK(series[0].samples.at(0).throttled == "power_cap");
}

TEST_CASE("pooled: cold samples make the time, hot ones a column, throttled ones are counted and kept") {
  const auto process = [](double cold, double hot) {
    Outcome outcome;
    outcome.row = {.variant = "mine",
                   .device = "cuda",
                   .problem = "nq=8,hq=1,d=8",
                   .cache = "cold",
                   .flops_useful = 1000,
                   .bytes_min = 100};
    outcome.row.stop = "median";
    const auto add = [&](int64_t round, double time_s, const char* cache, const char* throttled) {
      outcome.samples.push_back({.variant = "mine",
                                 .round = round,
                                 .sample = round,
                                 .time_s = time_s,
                                 .clock_hz = *throttled == 'n' ? 2e9 : 1e9,
                                 .cache = cache,
                                 .throttled = throttled});
    };
    for (int round = 0; round < 10; ++round) {
      add(round, cold * (1 + 1e-4 * round), "cold", round < 2 ? "power_cap" : "no");
    }
    for (int round = 0; round < 8; ++round) add(round, hot * (1 + 1e-4 * round), "hot", "power_cap");
    return outcome;
  };
  Job job{.problem = "nq=8,hq=1,d=8", .baseline = "mine", .processes = 2};
  const std::vector<Outcome> processes = {process(2, 1), process(2.01, 1.01)};
  const Outcome pooled = pool(job, processes, processes);
  CHECK(pooled.samples.size() == 36);
  CHECK(pooled.row.samples == 20);
  CHECK(pooled.row.rounds == 20);
  CHECK(*pooled.row.time_s_median == Approx(2.005).epsilon(0.001));
  CHECK(pooled.row.samples_hot == 16);
  CHECK(*pooled.row.time_hot_s_median == Approx(1.005).epsilon(0.001));
  CHECK(*pooled.row.time_hot_s_ci_low <= 1.0005);
  CHECK(pooled.row.samples_throttled == 4);
  CHECK(*pooled.row.clock_hz_mean == Approx((4 * 1e9 + 16 * 2e9) / 20));
  CHECK(pooled.row.outliers == 0);
  CHECK(*pooled.row.ratio_to_baseline == 1);
  CHECK(!pooled.row.roof_fraction);
  job.gpu_roofs["mine"] = {1000, 1e9, {{1e9, 1e9}}};
  CHECK(*pool(job, processes, {}).row.roof_fraction == Approx(1 / 2.005).epsilon(0.001));
  CHECK(pool(job, processes, {}).row.bound == "compute");
}
