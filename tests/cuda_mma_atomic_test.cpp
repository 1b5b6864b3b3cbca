// flash/cuda/mma/atomic on the host (tests/host_block.h, host_warp.h): its gradients against the float64
// oracle's and their bounds. Blocks run one after the other here, so that even dQ is the same bits each time.

#include <set>

#include "tests/host_mma_backward.h"
#include "variants/flash/flash_mma_atomic.cuh"

using namespace attn;

namespace {

template <class T>
Outputs<float> run_atomic_as(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                             const HostLayout& layout) {
  return run_mma_backward<T, FlashMmaAtomicScratch>(
      p, inputs, schedule, layout,
      [&](const HostQueue& queue, const Backward& args, const FlashMmaAtomicScratch& scratch) {
        flash_mma_atomic_backward<T>(queue, p, args, scratch);
      });
}
Outputs<float> run_atomic(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                          const HostLayout& layout) {
  return p.dtype == Dtype::bf16 ? run_atomic_as<Bf16>(p, inputs, schedule, layout)
                                : run_atomic_as<F16>(p, inputs, schedule, layout);
}
void check_atomic(const std::string& text) {
  for (const char* dtype : {",dtype=bf16", ",dtype=f16"}) check_backward(text + dtype, run_atomic);
}

template <int kWidth>
void check_places() {
  using Sums = FlashMmaQuerySums<kWidth>;
  std::set<int> seen;
  for (int warp = 0; warp < Sums::kWarps; ++warp) {
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      for (int m = 0; m < Sums::kRowTiles; ++m) {
        for (int n = 0; n < Sums::kChannelTiles; ++n) {
          for (int e = 0; e < 4; ++e) {
            const int query = warp / Sums::kChannelSplits * 32 + 16 * m + mma_c(lane, e).row;
            const int channel = warp % Sums::kChannelSplits * Sums::kChannels + 8 * n + mma_c(lane, e).column;
            const int place = Sums::first_of(warp, lane, m, n) + e;
            REQUIRE(Sums::place_of(query, channel) == place);
            REQUIRE((place >= 0 && place < Sums::kTileFloats && seen.insert(place).second));
          }
        }
      }
    }
  }
  CHECK(static_cast<int>(seen.size()) == Sums::kTileFloats);
}

}  // namespace

TEST_CASE("sums of dQ lie where the lanes that hold them add") {
  check_places<64>();
  check_places<128>();
}

TEST_CASE("flash/cuda/mma/atomic on the host agrees with the oracle") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=129,nk=130,d=64,dv=64", "b=2,hq=2,hk=2,nq=3,nk=5,d=8,dv=12",
               "b=1,hq=2,hk=2,nq=130,nk=67,d=41,dv=70", "b=1,hq=1,nq=1,nk=1,d=1,dv=1",
               "b=1,hq=3,hk=3,nq=2,nk=0,d=16,dv=16", "b=1,hq=1,nq=127,nk=128,d=128,dv=128",
               "b=1,hq=6,hk=2,nq=31,nk=33,d=16,dv=24");
  check_atomic(shape);
  check_atomic(shape + ",mask=causal");
  check_atomic(shape + ",scale=-0.3");
}

TEST_CASE("flash/cuda/mma/atomic on the host: masks") {
  const BlockFile odd("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  const std::string shape = GENERATE("b=2,hq=2,hk=1,nq=90,nk=150,d=20,dv=33", "b=2,hq=1,nq=90,nk=150,d=72");
  check_atomic(shape + ",mask=" + GENERATE("causal:topleft", "window:9:4", "padding:33/0", "padding:50%"));
  check_atomic(shape + ",mask=causal+padding:97+blocks:" + odd.path);
}

TEST_CASE("flash/cuda/mma/atomic on the host: documents") {
  check_atomic("b=2,hq=2,hk=1,nq=150,mask=causal+document:33/64" +
               std::string(GENERATE(",d=20,dv=33", ",d=72")));
}

TEST_CASE(
    "flash/cuda/mma/atomic on the host: NaN in a key reaches the queries that see it and nothing else") {
  for (const char* text : {"b=1,hq=1,nq=150,nk=150,d=16,dv=16,mask=window:12:3,dtype=bf16,pass=bwd",
                           "b=1,hq=1,nq=150,nk=150,d=128,dv=72,mask=causal,dtype=f16,pass=bwd"}) {
    const Problem p = Problem::parse(text);
    const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
    Inputs<float> spoiled = clean;
    const int64_t bad = 50;
    std::fill_n(spoiled.k.begin() + bad * p.head_dim, p.head_dim, kNan);
    std::fill_n(spoiled.v.begin() + bad * p.value_dim, p.value_dim, INFINITY);
    const Outputs<float> expected = run_atomic(p, clean, {}, {}), found = run_atomic(p, spoiled, {}, {});
    for (int64_t i = 0; i < p.seq_q; ++i) {
      INFO(text << " query " << i);
      for (int64_t c = 0; c < p.head_dim; ++c) {
        const auto at = static_cast<size_t>(i * p.head_dim + c);
        if (p.mask_rule().allows(0, i, bad)) CHECK_FALSE(std::isfinite(found.d_q[at]));
        if (!p.mask_rule().allows(0, i, bad)) CHECK(found.d_q[at] == expected.d_q[at]);
      }
    }
  }
}

TEST_CASE("flash/cuda/mma/atomic: workspace to the byte") {
  const auto bytes = [](const char* text) {
    Workspace counting;
    FlashMmaAtomicScratch::take(Problem::parse(text), counting);
    return counting.bytes();
  };
  const size_t queries = 2 * 4 * 256;  // sequences filled up to 128s
  CHECK(bytes("b=2,hq=4,hk=2,nq=130,nk=70,d=64,dtype=bf16,pass=bwd") == queries * (8 + 4 * 64));
  CHECK(bytes("b=2,hq=4,hk=2,nq=130,nk=70,d=65,dtype=bf16,pass=bwd") == queries * (8 + 4 * 128));
}
