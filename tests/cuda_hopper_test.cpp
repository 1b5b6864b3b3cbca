// The own source of the Hopper rungs (flash_hopper.cuh) on the host, thread by thread over modelled
// instructions (tests/host_sm90.h): barriers, rings, turns, descriptors, masks, epilogue, against the float64
// oracle and its bounds, in several interleavings. Errors planted into the instructions must show.

#include "tests/host_sm90.h"
// kernels come behind their instructions
#include "tests/host_forward.h"
#include "variants/flash/flash_hopper_args.cuh"

using namespace attn;

namespace {

constexpr HopperRung kSingle{}, kSpecialised{true}, kOverlap{true, true}, kPingpong{true, true, true},
    kPersistent{true, true, true, true};

struct Launch {
  HostRun how;
  int blocks = 2;                                     ///< of a persistent kernel; two are at work at a time
  bool small = false;                                 ///< tiles, where there are two sizes
  std::function<void(const TileVisits&)> spoil = {};  ///< the list of visits
};

template <HopperRung kRung, class Body>
void launch_body(const Body& body, const Launch& launch) {
  const auto count = static_cast<int>(body.args.schedule.count());
  HostLaunch::run(body, kRung.persistent ? std::min(count, launch.blocks) : count, 2, launch.how);
}
template <class T, int kWidth, HopperKind kKind, HopperRung kRung, bool kEverything>
void launch_tiles(const FlashHopperArgs<T>& args, const Launch& launch) {
  constexpr HopperTiling kLarge = hopper_tiling(kWidth, kKind), kSmall = hopper_smaller(kLarge);
  constexpr HopperRung kUsed = kEverything ? hopper_best_rung(kWidth, kKind) : kRung;
  if constexpr (kEverything && hopper_has_smaller(kWidth, kKind)) {
    if (launch.small) return launch_body<kUsed>(FlashHopper<T, kWidth, kKind, kUsed, kSmall>{args}, launch);
  }
  launch_body<kUsed>(FlashHopper<T, kWidth, kKind, kUsed, kLarge>{args}, launch);
}
template <class T, HopperKind kKind, HopperRung kRung, bool kEverything>
void launch_width(const Problem& p, const FlashHopperArgs<T>& args, const Launch& launch) {
  const int width = flash_mma_width(p);
  if constexpr (kEverything) {
    if (width == 64) return launch_tiles<T, 64, kKind, kRung, true>(args, launch);
    if (width == 256) return launch_tiles<T, 256, kKind, kRung, true>(args, launch);
  }
  REQUIRE(width == 128);
  launch_tiles<T, 128, kKind, kRung, kEverything>(args, launch);
}

/// kEverything: all widths and kinds, each in the rung that flash/cuda/hopper has of it; else plain and
/// masked at width 128 in kRung.
template <class T, HopperRung kRung, bool kEverything = false>
Outputs<float> run_hopper(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                          const Launch& launch) {
  HostWorkspace workspace([&](Workspace& counting) { HopperScratch::take(p, counting); });
  const HopperScratch scratch = HopperScratch::take(p, workspace.granting);
  scratch.prepare(HostQueue(), p);
  if (launch.spoil) launch.spoil(scratch.visits);
  HostTensorMaps maps;
  return run_forward<T>(p, inputs, layout, [&](const Forward& forward) {
    REQUIRE(hopper_strides(p, forward));
    const HopperTiling large = hopper_tiling_of(p), tiling = launch.small ? hopper_smaller(large) : large;
    const auto args = hopper_args<T>(
        HostQueue(), p, forward, scratch,
        [&](const auto& tensor, const TensorShape& shape, int rows) {
          return maps.add(host_tensor_map(const_cast<void*>(static_cast<const void*>(tensor.data)),
                                          tensor_box(tensor, shape, rows)));
        },
        tiling);
    const HopperKind kind = hopper_kind(p);
    if (kind == HopperKind::plain) {
      launch_width<T, HopperKind::plain, kRung, kEverything>(p, args, launch);
    } else if (kind == HopperKind::masked) {
      launch_width<T, HopperKind::masked, kRung, kEverything>(p, args, launch);
    } else if constexpr (kEverything) {
      if (kind == HopperKind::biased) {
        launch_width<T, HopperKind::biased, kRung, true>(p, args, launch);
      } else {
        launch_width<T, HopperKind::capped, kRung, true>(p, args, launch);
      }
    }
    REQUIRE(*scratch.taken == 0);
  });
}

template <class T, HopperRung kRung, bool kEverything = false>
void check_hopper(const std::string& text, Fill fill = Fill::peaked) {
  const Problem p = Problem::parse(text + (std::is_same_v<T, Bf16> ? ",dtype=bf16" : ",dtype=f16"));
  const Inputs<float> inputs = make_inputs(p, fill, 7);
  const Truth truth = make_truth(p, inputs, {});
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const HostLayout layout{seed % 2 == 0, seed % 2 == 0 ? 8 : 0};
    Launch launch;
    launch.how.seed = seed;
    launch.how.shared_first = seed % 2 == 0 ? 1024 : 1040;
    launch.small = seed == 3 && kEverything && hopper_may_be_smaller(p);
    const Verdict verdict = compare(p, truth, run_hopper<T, kRung, kEverything>(p, inputs, layout, launch));
    INFO(text << " seed " << seed << " fill " << to_text(fill) << ": " << verdict.reason);
    CHECK(verdict.ok);
  }
}
template <class T, HopperRung kRung>
void check_rung() {
  check_hopper<T, kRung>("b=1,hq=2,hk=1,nq=200,nk=400,d=128");
  check_hopper<T, kRung>("b=2,hq=1,nq=150,nk=300,d=120,dv=72,mask=causal+padding:130/300");
}

}  // namespace

TEST_CASE("hopper on the host: every rung") {
  check_rung<Bf16, kSingle>();
  check_rung<Bf16, kSpecialised>();
  check_rung<Bf16, kOverlap>();
  check_rung<Bf16, kPingpong>();
  check_rung<Bf16, kPersistent>();
  check_rung<F16, kPersistent>();
}

TEST_CASE("hopper on the host: widths and ragged tiles") {
  for (const char* text :
       {"b=1,hq=2,hk=1,nq=500,nk=400,d=64", "b=1,hq=3,hk=1,nq=500,nk=350,d=64,mask=causal",
        "b=2,hq=2,nq=300,nk=300,d=128", "b=1,hq=2,hk=1,nq=300,nk=250,d=256", "b=1,hq=1,nq=1,nk=1,d=8",
        "b=1,hq=3,nq=2,nk=0,d=16", "b=1,hq=2,nq=129,nk=81,d=200"}) {
    check_hopper<Bf16, kPersistent, true>(text);
  }
}

TEST_CASE("hopper on the host: masks and positions") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  for (const std::string text :
       {"b=1,hq=2,hk=1,nq=300,nk=250,d=256,mask=window:60:0",
        "b=1,hq=1,nq=500,nk=66,d=24,mask=causal",  // rows without keys
        "b=1,hq=1,nq=200,nk=400,d=128,mask=causal:topleft",
        "b=1,hq=2,nq=200,nk=300,d=64,mask=causal,pos=alibi", "b=1,hq=2,nq=150,nk=300,d=128,pos=t5:8:20",
        "b=1,hq=1,nq=150,nk=200,d=256,mask=padding:99,pos=alibi",
        "b=1,hq=1,nq=150,nk=200,d=128,softcap=5,scale=-0.3"}) {
    check_hopper<Bf16, kPersistent, true>(text);
  }
  check_hopper<Bf16, kPersistent, true>("b=1,hq=2,hk=1,nq=90,nk=150,d=24,mask=blocks:" + file.path);
}

/// Of 300 queries and 350 keys in blocks of 64: a row of 128 x 128 tiles without visits, one of full tiles,
/// one of cut ones.
const char* const kCoarseBlocks = "64 64 5 6\n0 1 2 3 4 5\n0 1 2 3 4 5\n\n\n1 4\n";

TEST_CASE("hopper on the host: block masks") {
  std::mt19937 random(23);
  const BlockFile coarse(kCoarseBlocks), fine(random_blocks(random, 300, 350, 3, 7));
  const std::string shape = "nq=300,nk=350,mask=", blocks = "blocks:" + coarse.path;
  check_hopper<Bf16, kSingle>("b=1,hq=1,d=128," + shape + blocks);
  check_hopper<Bf16, kSpecialised>("b=1,hq=1,d=128," + shape + "causal+" + blocks);
  check_hopper<F16, kOverlap>("b=1,hq=1,d=128," + shape + blocks);
  check_hopper<Bf16, kPersistent, true>("b=2,hq=2,hk=1,d=128," + shape + blocks);
  check_hopper<Bf16, kPersistent, true>("b=2,hq=1,d=64," + shape + "causal+padding:350/200+" + blocks);
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,d=200," + shape + "window:90:60+" + blocks);
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,d=64," + shape + "blocks:" + fine.path + ",pos=alibi");
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,d=128,softcap=5," + shape + "causal+blocks:" + fine.path);
}

TEST_CASE("hopper on the host: errors in the list of visits show") {
  const BlockFile file(kCoarseBlocks);
  const Problem p = Problem::parse("b=1,hq=1,nq=300,nk=350,d=128,dtype=bf16,mask=blocks:" + file.path);
  const Inputs<float> inputs = make_inputs(p, Fill::peaked, 7);
  const Truth truth = make_truth(p, inputs, {});
  const auto right = [&](std::function<void(const TileVisits&)> spoil) {
    Launch launch;
    launch.spoil = std::move(spoil);
    return compare(p, truth, run_hopper<Bf16, kPersistent>(p, inputs, {}, launch)).ok;
  };
  CHECK(right([](const TileVisits& visits) {
    const int* row = visits.words + 2 * visits.stride;  // of keys 64 to 128 and 256 to 320, in tiles of 128
    REQUIRE((row[0] == kCutTile && row[1] == (2 | kCutTile) && row[2] == row[1] && row[3] == 3));
  }));
  CHECK_FALSE(right([](const TileVisits& visits) { visits.words[1] = visits.words[2]; }));
  CHECK_FALSE(right([](const TileVisits& visits) { visits.words[2 * visits.stride] = 2 | kCutTile; }));
  CHECK_FALSE(right([](const TileVisits& visits) { visits.words[2 * visits.stride] &= ~kCutTile; }));
  CHECK_FALSE(right([](const TileVisits& visits) { visits.words[2 * visits.stride + 1] &= ~kCutTile; }));
  CHECK_FALSE(right([](const TileVisits& visits) { visits.words[visits.stride] = 1; }));
}

TEST_CASE("hopper on the host: late and large maxima") {
  for (const Fill fill : {Fill::late_max, Fill::overflow, Fill::integers}) {
    check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=200,nk=400,d=64", fill);
    check_hopper<Bf16, kPersistent>("b=1,hq=1,nq=140,nk=400,d=128", fill);
    check_hopper<Bf16, kPersistent>("b=1,hq=1,nq=140,nk=400,d=128,mask=causal", fill);
    check_hopper<F16, kPersistent>("b=1,hq=1,nq=140,nk=300,d=128,mask=causal", fill);
  }
}

TEST_CASE("hopper on the host: NaN in keys a row does not see leaves the row as it was") {
  const Problem p = Problem::parse("b=1,hq=1,nq=150,nk=150,d=128,dv=72,mask=causal,dtype=bf16");
  const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
  Inputs<float> poisoned = clean;
  constexpr int64_t kBad = 80;
  std::fill_n(poisoned.k.begin() + kBad * p.head_dim, p.head_dim, kNan);
  std::fill_n(poisoned.v.begin() + kBad * p.value_dim, p.value_dim, kNan);
  const Outputs<float> expected = run_hopper<Bf16, kPersistent>(p, clean, {}, {}),
                       found = run_hopper<Bf16, kPersistent>(p, poisoned, {}, {});
  const MaskRule rule = p.mask_rule();
  for (int64_t i = 0; i < p.seq_q; ++i) {
    for (int64_t c = 0; c < p.value_dim; ++c) {
      const auto e = static_cast<size_t>(i * p.value_dim + c);
      INFO("row " << i << " channel " << c);
      if (rule.allows(0, i, kBad)) CHECK(std::isnan(found.o[e]));
      if (!rule.allows(0, i, kBad))
        CHECK(std::abs(found.o[e] - expected.o[e]) <= 0.01f * std::abs(expected.o[e]) + 0.01f);
    }
  }
}

TEST_CASE("hopper on the host: an error in any of the protocol's instructions shows") {
  const HostFault fault =
      GENERATE(HostFault::arrival_lost, HostFault::arrival_doubled, HostFault::count_one_more,
               HostFault::count_one_less, HostFault::wait_skipped, HostFault::parity_flipped,
               HostFault::bytes_short, HostFault::load_shifted, HostFault::load_late_row,
               HostFault::named_skipped, HostFault::group_wait_short, HostFault::store_wait_skipped,
               HostFault::proxy_fence_skipped, HostFault::register_wait_skipped);
  const Problem p = Problem::parse("b=1,hq=1,nq=384,nk=400,d=128,dtype=bf16");
  const Inputs<float> inputs = make_inputs(p, Fill::peaked, 7);
  const Truth truth = make_truth(p, inputs, {});
  for (int nth = 0; nth < 6; ++nth) {
    bool caught = false;
    for (uint64_t seed = 1; seed <= 4 && !caught; ++seed) {
      try {
        Launch launch;
        launch.how = {seed, fault, nth, 1024};
        launch.blocks = 1;  // three rows of tiles: every ring turns
        caught = !compare(p, truth, run_hopper<Bf16, kPersistent>(p, inputs, {}, launch)).ok;
      } catch (const std::logic_error&) {
        caught = true;
      }
    }
    INFO("fault " << static_cast<int>(fault) << " nth " << nth);
    CHECK(caught);
  }
}
