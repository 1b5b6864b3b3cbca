// The own source of the Hopper rungs (flash_hopper.cuh) on the host, thread by thread, over modelled
// instructions (tests/host_sm90.h): barriers, rings, turns, descriptors, masks, epilogue, against the float64
// oracle and its bounds, in many interleavings. It has not run on a GPU.

#include "tests/host_sm90.h"
// kernels come behind their instructions
#include "tests/host_forward.h"
#include "variants/flash/flash_hopper.cuh"
#include "variants/flash/flash_mma_forward.cuh"

using namespace attn;

namespace {

constexpr HopperRung kSingle{}, kSpecialised{true}, kOverlap{true, true}, kPingpong{true, true, true},
    kPersistent{true, true, true, true};

struct Launch {
  HostRun how;
  int blocks = 2;    ///< of a persistent kernel
  int resident = 2;  ///< at a time
};

template <class T>
struct Run {
  const Problem& p;
  const Forward& forward;
  const Launch& launch;
  FlashScratch scratch;
  HostTensorMaps maps;
  unsigned taken = 0;

  template <class Void>
  TensorMap map(const BasicTensor<Void>& tensor, int64_t seq, int64_t heads, int64_t width, int rows) {
    const TensorShape shape{p.batch, seq, heads, width};
    REQUIRE(tma_accepts(tensor, shape));
    return maps.add(host_tensor_map(const_cast<void*>(static_cast<const void*>(tensor.data)),
                                    tensor_box(tensor, shape, rows)));
  }
  template <int kWidth, FlashKind kKind, HopperRung kRung>
  void with() {
    using Body = FlashHopper<T, kWidth, kKind, kRung>;
    FlashHopperArgs<T> args{FlashShape::of(p, scratch.mask.rule(p))};
    args.q_map = map(forward.q, p.seq_q, p.heads_q, p.head_dim, 64);
    args.k_map = map(forward.k, p.seq_kv, p.heads_kv, p.head_dim, Body::kKeys);
    args.v_map = map(forward.v, p.seq_kv, p.heads_kv, p.value_dim, Body::kKeys);
    args.o_map = map(forward.o, p.seq_q, p.heads_q, p.value_dim, 16);
    args.q = gpu_tensor<const T>(forward.q);
    args.k = gpu_tensor<const T>(forward.k);
    args.v = gpu_tensor<const T>(forward.v);
    args.lse = forward.lse;
    args.head_dim = static_cast<int>(p.head_dim);
    args.value_dim = static_cast<int>(p.value_dim);
    args.scale = static_cast<float>(p.softmax_scale());
    args.softcap = static_cast<float>(p.softcap);
    args.bias = scratch.bias.fill(HostQueue(), p, forward.tables);
    args.schedule = HopperSchedule::of(p, Body::kRows);
    args.taken = &taken;
    const int count = static_cast<int>(args.schedule.count());
    HostLaunch::run(Body{args}, kRung.persistent ? std::min(count, launch.blocks) : count, launch.resident,
                    launch.how);
    CHECK(taken == 0);
  }
  template <FlashKind kKind, HopperRung kRung>
  void of_kind() {
    switch (flash_mma_width(p)) {
      case 64:
        return with<64, kKind, kRung>();
      case 128:
        return with<128, kKind, kRung>();
      default:
        return with<256, kKind, kRung>();
    }
  }
};

template <class T, HopperRung kRung>
Outputs<float> run_hopper(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                          const Launch& launch) {
  HostWorkspace workspace([&](Workspace& counting) { FlashScratch::take(p, counting); });
  const FlashScratch scratch = FlashScratch::take(p, workspace.granting);
  scratch.prepare(HostQueue(), p);
  return run_forward<T>(p, inputs, layout, [&](const Forward& forward) {
    Run<T> run{p, forward, launch, scratch, {}, 0};
    if (flash_mma_extended(p)) return run.template of_kind<FlashKind::extended, kRung>();
    if (!p.mask.none()) return run.template of_kind<FlashKind::masked, kRung>();
    run.template of_kind<FlashKind::plain, kRung>();
  });
}

template <class T, HopperRung kRung>
void check_hopper(const std::string& text, Fill fill = Fill::peaked) {
  const Problem p = Problem::parse(text + (std::is_same_v<T, Bf16> ? ",dtype=bf16" : ",dtype=f16"));
  const Inputs<float> inputs = make_inputs(p, fill, 7);
  const Truth truth = make_truth(p, inputs, {});
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const HostLayout layout{seed % 2 == 0, seed % 2 == 0 ? 8 : 0};
    INFO(text << " seed " << seed);
    const Verdict verdict = compare(p, truth, run_hopper<T, kRung>(p, inputs, layout, {{seed}}));
    INFO(verdict.reason);
    CHECK(verdict.ok);
  }
}

}  // namespace

TEST_CASE("hopper on the host: first") {
  check_hopper<Bf16, kPersistent>("b=1,hq=2,hk=1,nq=300,nk=400,d=64,dv=64");
}
