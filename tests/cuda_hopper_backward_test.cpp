// flash/cuda/hopper's backward on the host, thread by thread over modelled instructions (tests/host_sm90.h),
// behind flash/cuda/mma's forward: against the float64 oracle's gradients and their bounds, bitwise alike in
// every interleaving. It has not run on a GPU.

#include "tests/host_sm90.h"
// kernels come behind their instructions
#include "tests/host_backward.h"
#include "variants/flash/flash_hopper_backward.cuh"

using namespace attn;

namespace {

struct HopperRun {
  HostRun how;
  int resident = 3;  ///< thread blocks at a time
};

template <class T>
Outputs<float> run_hopper_backward_as(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                                      const HopperRun& run) {
  const HostQueue queue;
  HostWorkspace before([&](Workspace& counting) { FlashMmaScratch::take(p, counting); });
  HostWorkspace after([&](Workspace& counting) { FlashHopperBackwardScratch::take(p, counting); });
  FlashMmaScratch::take(p, before.granting).prepare(queue, p);
  before.granting.rewind();
  HostTensorMaps maps;
  return run_backward<T>(
      p, inputs, layout,
      [&](const Forward& args) {
        flash_mma_forward<T>(queue, p, args, FlashMmaScratch::take(p, before.granting));
      },
      [&](const Backward& args) {
        flash_hopper_backward<T>(
            queue, p, args, FlashHopperBackwardScratch::take(p, after.granting),
            [&](const auto& tensor, const TensorShape& shape) {
              REQUIRE(tma_accepts(tensor, shape));
              return maps.add(host_tensor_map(const_cast<void*>(static_cast<const void*>(tensor.data)),
                                              tensor_box(tensor, shape, 64)));
            },
            [&](const auto& body, int64_t count) {
              HostLaunch::run(body, static_cast<int>(count), run.resident, run.how);
            });
      });
}
Outputs<float> run_hopper_backward(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                                   const HopperRun& run) {
  return p.dtype == Dtype::bf16 ? run_hopper_backward_as<Bf16>(p, inputs, layout, run)
                                : run_hopper_backward_as<F16>(p, inputs, layout, run);
}

void check_hopper_backward(const std::string& text, int seeds = 2, Fill fill = Fill::peaked) {
  const Problem p = Problem::parse(text + ",pass=bwd");
  REQUIRE(hopper_gradient_supports(p).reason == "");
  const Inputs<float> inputs = make_checked_inputs(p, fill, 7);
  const Truth truth = make_truth(p, inputs, {});
  std::vector<Outputs<float>> seen;
  for (int seed = 1; seed <= seeds; ++seed) {
    INFO(text << " seed " << seed);
    HopperRun run{{.seed = static_cast<uint64_t>(seed)}};
    run.resident = 1 + 2 * seed;
    const HostLayout layout{seed % 2 == 0, seed % 2 == 0 ? 8 : 0};
    const Outputs<float> outputs = run_hopper_backward(p, inputs, layout, run);
    const Verdict verdict = compare(p, truth, outputs);
    INFO(verdict.reason);
    CHECK(verdict.ok);
    if (!seen.empty()) CHECK(same_bits(outputs, seen.front()));
    if (seen.empty()) seen.push_back(outputs);
  }
}

}  // namespace

TEST_CASE("flash/cuda/hopper's backward on the host: one tile") {
  check_hopper_backward("b=1,hq=1,nq=64,nk=128,d=128,dv=128,dtype=bf16");
}
TEST_CASE("flash/cuda/hopper's backward on the host: one tile of width 64") {
  check_hopper_backward("b=1,hq=1,nq=128,nk=128,d=64,dv=64,dtype=bf16");
}
TEST_CASE("flash/cuda/hopper's backward on the host agrees with the oracle") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=129,nk=130,d=64,dv=64", "b=1,hq=4,hk=2,nq=200,nk=300,d=128,dv=128",
               "b=2,hq=1,nq=1,nk=1,d=64,dv=64", "b=1,hq=2,hk=2,nq=127,nk=257,d=72,dv=40",
               "b=1,hq=1,nq=500,nk=128,d=64,dv=128");
  check_hopper_backward(shape + GENERATE(",dtype=bf16", ",dtype=f16"));
  check_hopper_backward(shape + ",dtype=bf16,mask=causal,scale=-0.3");
}
TEST_CASE("flash/cuda/hopper's backward on the host: bands") {
  const std::string shape = GENERATE("b=1,hq=2,hk=1,nq=300,nk=300,d=64", "b=1,hq=2,hk=1,nq=300,nk=300,d=128",
                                     "b=1,hq=1,nq=400,nk=150,d=128", "b=1,hq=1,nq=150,nk=600,d=64");
  check_hopper_backward(
      shape + ",dtype=bf16,mask=" +
      GENERATE("causal", "causal:topleft", "window:70:0", "window:9:40", "causal+window:130:*"));
}
