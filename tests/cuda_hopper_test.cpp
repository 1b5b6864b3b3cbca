// The own source of the Hopper rungs (flash_hopper.cuh) on the host, thread by thread over modelled
// instructions (tests/host_sm90.h): barriers, rings, turns, descriptors, masks, epilogue, against the float64
// oracle and its bounds, in several interleavings. Errors planted into the instructions must show.

#include "tests/host_hopper_forward.h"
// kernels come behind their instructions
#include "variants/flash/flash_hopper_rotated.cuh"

using namespace attn;

namespace {

constexpr HopperRung kSingle{}, kSpecialised{true}, kOverlap{true, true}, kPingpong{true, true, true},
    kPersistent{true, true, true, true};

struct Launch : HostHopperLaunch {
  bool small = false;  ///< tiles, where there are two sizes
  std::function<void(const TileVisits&)> spoil_visits = nullptr;
  std::function<void(FlashShawArgs&)> spoil_terms = nullptr;
  std::function<void(RopeAngles&)> spoil_angles = nullptr;
  std::function<void(HopperRope&)> spoil_rope = nullptr;
};

template <class T, int kWidth, HopperKind kKind, HopperRung kRung, bool kEverything>
void launch_tiles(const FlashHopperArgs<T>& args, const Launch& launch) {
  constexpr HopperTiling kLarge = hopper_tiling(kWidth, kKind), kSmall = hopper_smaller(kLarge);
  constexpr HopperRung kUsed = kEverything ? hopper_best_rung(kWidth, kKind) : kRung;
  if constexpr (kEverything && hopper_has_smaller(kWidth, kKind)) {
    if (launch.small) return launch_on_host(FlashHopper<T, kWidth, kKind, kUsed, kSmall>{args}, launch);
  }
  launch_on_host(FlashHopper<T, kWidth, kKind, kUsed, kLarge>{args}, launch);
}
template <class T, HopperKind kKind, HopperRung kRung, bool kEverything>
void launch_width(int width, const FlashHopperArgs<T>& args, const Launch& launch) {
  if constexpr (kEverything) {
    if constexpr (hopper_has_wide_keys(kKind)) {
      if (width == 192) return launch_tiles<T, 192, kKind, kRung, true>(args, launch);
    }
    if (width == 64) return launch_tiles<T, 64, kKind, kRung, true>(args, launch);
    if (width == 256) return launch_tiles<T, 256, kKind, kRung, true>(args, launch);
  }
  REQUIRE(width == 128);
  launch_tiles<T, 128, kKind, kRung, kEverything>(args, launch);
}

/// kEverything: all widths and kinds, each in the rung that flash/cuda/hopper has of it; else plain and
/// masked at width 128 in kRung, in f16 Shaw keys too.
template <class T, HopperRung kRung, bool kEverything>
void launch_kind(const Problem& p, int width, const FlashHopperArgs<T>& args, const Launch& launch) {
  constexpr bool kShaw = kEverything || std::is_same_v<T, F16>;
  switch (hopper_kind(p)) {
    case HopperKind::plain:
      return launch_width<T, HopperKind::plain, kRung, kEverything>(width, args, launch);
    case HopperKind::masked:
      return launch_width<T, HopperKind::masked, kRung, kEverything>(width, args, launch);
    case HopperKind::biased:
      if constexpr (kEverything) return launch_width<T, HopperKind::biased, kRung, true>(width, args, launch);
      break;
    case HopperKind::capped:
      if constexpr (kEverything) return launch_width<T, HopperKind::capped, kRung, true>(width, args, launch);
      break;
    case HopperKind::shaw:
      if constexpr (kShaw) return launch_width<T, HopperKind::shaw, kRung, kEverything>(width, args, launch);
      break;
    case HopperKind::rope:    // run_rope()
    case HopperKind::packed:  // cuda_hopper_packed_test.cpp
      break;
  }
  FAIL("not built");
}

template <class T, HopperRung kRung, bool kEverything>
void run_on(const Problem& p, const Forward& forward, const HopperScratch& scratch, const Launch& launch) {
  HostTensorMaps maps;
  const HopperTiles tiles = launch.small ? scratch.tiles.smaller() : scratch.tiles;
  auto args = host_hopper_args<T>(maps, p, forward, scratch, tiles);
  args.shaw = scratch.shaw.fill<T>(HostQueue(), p, args, args.q, forward.tables);
  if (launch.spoil_terms) launch.spoil_terms(args.shaw);
  launch_kind<T, kRung, kEverything>(p, tiles.width, args, launch);
  REQUIRE(*scratch.taken == 0);
}

template <class T, HopperRung kRung, bool kEverything = false>
Outputs<float> run_hopper(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                          const Launch& launch) {
  HostWorkspace workspace([&](Workspace& counting) { HopperScratch::take(p, counting); });
  const HopperScratch scratch = HopperScratch::take(p, workspace.granting);
  scratch.prepare(HostQueue(), p);
  if (launch.spoil_visits) launch.spoil_visits(scratch.visits);
  return run_forward<T>(p, inputs, layout, [&](const Forward& forward) {
    run_on<T, kRung, kEverything>(p, forward, scratch, launch);
  });
}

/// flash/cuda/hopper/rotated.
template <class T, HopperRung kRung, bool kEverything = false>
Outputs<float> run_rotated(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                           const Launch& launch) {
  using Scratch = RotatedScratch<RotatedAhead::q_and_k>;
  HostWorkspace workspace([&](Workspace& counting) { Scratch::take(p, counting, hopper_tiles_of(p)); });
  Scratch scratch = Scratch::take(p, workspace.granting, hopper_tiles_of(p));
  scratch.prepare(HostQueue(), p);
  if (launch.spoil_angles) launch.spoil_angles(scratch.rotated.angles);
  return run_forward<T>(p, inputs, layout, [&](const Forward& forward) {
    const Forward rotated = rotate_ahead<T>(HostQueue(), p, forward, scratch.rotated);
    run_on<T, kRung, kEverything>(p, rotated, scratch.hopper, launch);
  });
}

/// flash/cuda/hopper/rope. kEverything: all widths.
template <class T, bool kEverything>
Outputs<float> run_rope(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                        const Launch& launch) {
  using Scratch = RotatedScratch<RotatedAhead::k>;
  const HopperTiles tiles = hopper_tiles_of(p, HopperKind::rope);
  HostWorkspace workspace([&](Workspace& counting) { Scratch::take(p, counting, tiles); });
  const Scratch scratch = Scratch::take(p, workspace.granting, tiles);
  scratch.prepare(HostQueue(), p);
  return run_forward<T>(p, inputs, layout, [&](const Forward& forward) {
    const Forward rotated = rotate_ahead<T>(HostQueue(), p, forward, scratch.rotated);
    HostTensorMaps maps;
    auto args = host_hopper_args<T>(maps, p, rotated, scratch.hopper, tiles);
    args.rope = hopper_rope(p, scratch.rotated.angles, p.offset());
    if (launch.spoil_rope) launch.spoil_rope(args.rope);
    launch_width<T, HopperKind::rope, kPersistent, kEverything>(tiles.width, args, launch);
    REQUIRE(*scratch.hopper.taken == 0);
  });
}

template <class T, HopperRung kRung, bool kEverything = false>
void check_hopper(const std::string& text, Fill fill = Fill::peaked) {
  const Problem p = Problem::parse(text + (std::is_same_v<T, Bf16> ? ",dtype=bf16" : ",dtype=f16"));
  const Inputs<float> inputs = make_inputs(p, fill, 7);
  const bool rope = p.position.rope();
  const Truth truth =
      make_truth(p, inputs, {.operand_rounding = rope ? rotated_rounding(p) : OperandRounding{}});
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const HostLayout layout{seed % 2 == 0, seed % 2 == 0 ? 8 : 0};
    Launch launch;
    launch.how.seed = seed;
    launch.how.shared_first = seed % 2 == 0 ? 1024 : 1040;
    launch.small = seed == 3 && kEverything && hopper_may_be_smaller(p);
    const auto run = rope ? run_rotated<T, kRung, kEverything> : run_hopper<T, kRung, kEverything>;
    const Verdict verdict = compare(p, truth, run(p, inputs, layout, launch));
    INFO(text << " seed " << seed << " fill " << to_text(fill) << ": " << verdict.reason);
    CHECK(verdict.ok);
  }
}
/// Queries rotated by the kernel and ahead of it: the same numbers, as close to the oracle as they must be.
template <class T, bool kEverything>
void check_rope(const std::string& text, Fill fill = Fill::peaked) {
  const Problem p = Problem::parse(text + (std::is_same_v<T, Bf16> ? ",dtype=bf16" : ",dtype=f16"));
  const Inputs<float> inputs = make_inputs(p, fill, 7);
  const Truth truth = make_truth(p, inputs, {.operand_rounding = rotated_rounding(p)});
  const Outputs<float> ahead = run_rotated<T, kPersistent, kEverything>(p, inputs, {}, {});
  for (uint64_t seed = 1; seed <= 3; ++seed) {
    const HostLayout layout{seed % 2 == 0, seed % 2 == 0 ? 8 : 0};
    Launch launch;
    launch.how.seed = seed;
    launch.how.shared_first = seed % 2 == 0 ? 1024 : 1040;
    launch.blocks = seed == 3 ? 1 : 2;
    const Outputs<float> found = run_rope<T, kEverything>(p, inputs, layout, launch);
    const Verdict verdict = compare(p, truth, found);
    INFO(text << " seed " << seed << " fill " << to_text(fill) << ": " << verdict.reason);
    CHECK(verdict.ok);
    CHECK(same_bits(found, ahead));
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

TEST_CASE("hopper on the host: wide keys beside narrow values") {
  for (const char* text :
       {"b=1,hq=2,hk=1,nq=300,nk=400,d=192,dv=128", "b=2,hq=2,nq=140,nk=300,d=136,dv=40",
        "b=2,hq=1,nq=270,nk=300,d=192,dv=128,mask=causal+padding:150/300",
        "b=1,hq=1,nq=300,nk=66,d=160,dv=128,mask=window:60:9", "b=1,hq=1,nq=1,nk=1,d=192,dv=8",
        "b=1,hq=1,nq=130,nk=140,d=192,dv=128,mask=causal,pos=alibi", "b=1,hq=1,nq=2,nk=0,d=192,dv=128"}) {
    check_hopper<Bf16, kPersistent, true>(text);
  }
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=200,nk=400,d=192,dv=128", Fill::late_max);
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=90,nk=150,d=192,dv=128,mask=blocks:" + file.path);
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=90,nk=150,d=192,dv=128,mask=causal,pos=rope:10000");
  check_rope<Bf16, true>("b=1,hq=1,nq=140,nk=200,d=192,dv=128,mask=causal,pos=rope:10000");
}
TEST_CASE("hopper on the host: masks and positions") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  for (const std::string text :
       {"b=1,hq=2,hk=1,nq=300,nk=250,d=256,mask=window:60:0",
        "b=1,hq=1,nq=500,nk=66,d=24,mask=causal",  // rows without keys
        "b=1,hq=1,nq=200,nk=400,d=128,mask=causal:topleft",
        "b=1,hq=2,nq=200,nk=300,d=64,mask=causal,pos=alibi", "b=1,hq=2,nq=150,nk=300,d=128,pos=t5:8:20",
        "b=1,hq=1,nq=150,nk=200,d=256,mask=padding:99,pos=alibi",
        "b=1,hq=1,nq=150,nk=200,d=128,softcap=5,scale=-0.3",
        "b=1,hq=2,hk=1,nq=400,d=64,mask=document:130/5/90",
        "b=1,hq=1,nq=300,d=128,mask=causal+document:70/160,pos=alibi",
        "b=2,hq=1,nq=200,d=256,mask=window:60:9+padding:150/200+document:99/30"}) {
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
    launch.spoil_visits = std::move(spoil);
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

TEST_CASE("hopper on the host: Shaw keys") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  for (const std::string text :
       {"b=2,hq=2,hk=1,nq=200,nk=300,d=64,pos=shaw-keys:5", "b=1,hq=1,nq=200,nk=500,d=128,pos=shaw-keys:40",
        "b=1,hq=2,hk=1,nq=150,nk=200,d=128,dv=72,mask=causal,pos=shaw-keys:0",
        "b=1,hq=1,nq=130,nk=200,d=256,mask=causal,pos=shaw-keys:16",
        "b=1,hq=1,nq=90,nk=130,d=64,pos=shaw-keys:500",            // no distance is clipped
        "b=1,hq=1,nq=300,nk=66,d=24,mask=causal,pos=shaw-keys:3",  // rows without keys
        "b=2,hq=1,nq=140,nk=260,d=200,mask=window:60:4+padding:99/260,pos=shaw-keys:9",
        "b=1,hq=2,nq=2,nk=0,d=16,pos=shaw-keys:4", "b=1,hq=1,nq=1,nk=1,d=8,pos=shaw-keys:1",
        "b=1,hq=1,nq=1,nk=400,d=64,pos=shaw-keys:100"}) {
    check_hopper<Bf16, kPersistent, true>(text);
  }
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=90,nk=150,d=24,pos=shaw-keys:7,mask=blocks:" +
                                        file.path);
  check_hopper<F16, kPersistent>("b=1,hq=1,nq=140,nk=300,d=128,mask=causal,pos=shaw-keys:20");
  for (const Fill fill : {Fill::late_max, Fill::overflow, Fill::integers}) {
    check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=140,nk=300,d=64,mask=causal,pos=shaw-keys:9", fill);
  }
}

TEST_CASE("hopper on the host: NaN in the rows of aK that no visible pair uses reaches nothing") {
  const Problem p = Problem::parse("b=1,hq=1,nq=300,nk=300,d=64,mask=causal,pos=shaw-keys:6,dtype=bf16");
  const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
  Inputs<float> poisoned = clean;
  std::fill(poisoned.shaw_key.begin() + 7 * p.head_dim, poisoned.shaw_key.end(),
            kNan);  // keys after the query
  const Outputs<float> expected = run_hopper<Bf16, kPersistent, true>(p, clean, {}, {}),
                       found = run_hopper<Bf16, kPersistent, true>(p, poisoned, {}, {});
  CHECK(same_bits(found, expected));
}

TEST_CASE("hopper on the host: RoPE") {
  for (const std::string text : {"b=2,hq=2,hk=1,nq=150,nk=300,d=128,pos=rope:10000",
                                 "b=1,hq=1,nq=150,nk=200,d=120,mask=causal,pos=rope-interleaved:100",
                                 "b=1,hq=2,nq=130,nk=70,d=104,mask=causal,pos=rope:500",
                                 "b=1,hq=1,nq=60,nk=90,d=96,pos=rope-interleaved:9"}) {
    check_hopper<Bf16, kPersistent, true>(text);
    check_hopper<F16, kPersistent>(text);
  }
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=90,nk=150,d=8,dv=64,pos=rope:10000");
  check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=3,nk=0,d=64,pos=rope:10000");
  for (const Fill fill : {Fill::late_max, Fill::overflow, Fill::normal, Fill::ones}) {
    check_hopper<Bf16, kPersistent, true>("b=1,hq=1,nq=90,nk=200,d=64,softcap=9,pos=rope:10000", fill);
    check_hopper<F16, kPersistent>("b=1,hq=1,nq=90,nk=200,d=128,pos=rope:10000", fill);
  }
}

TEST_CASE("hopper on the host: RoPE of the queries inside the kernel") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  for (const std::string text :
       {"b=2,hq=2,hk=1,nq=300,nk=200,d=128,pos=rope:10000",
        "b=1,hq=1,nq=150,nk=200,d=120,mask=causal,pos=rope-interleaved:100",
        "b=1,hq=2,nq=130,nk=70,d=104,mask=causal,pos=rope:500",  // rows without keys
        "b=2,hq=1,nq=129,nk=150,d=72,dv=104,mask=window:40:9+padding:99/150,pos=rope:20"}) {
    check_rope<Bf16, true>(text);
    check_rope<F16, false>(text);
  }
  for (const std::string text :
       {"b=1,hq=3,hk=1,nq=400,nk=300,d=64,mask=causal,pos=rope:10000", "b=1,hq=1,nq=1,nk=1,d=8,pos=rope:9",
        "b=1,hq=2,nq=3,nk=0,d=64,pos=rope:10000", "b=1,hq=2,nq=193,nk=90,d=40,pos=rope-interleaved:1e4",
        "b=1,hq=2,hk=1,nq=200,nk=150,d=256,mask=causal,pos=rope:10000",
        "b=1,hq=1,nq=130,nk=90,d=152,dv=200,pos=rope-interleaved:7"}) {
    check_rope<Bf16, true>(text);
  }
  check_rope<Bf16, true>("b=1,hq=1,nq=90,nk=150,d=24,pos=rope:100,mask=blocks:" + file.path);
  for (const Fill fill : {Fill::late_max, Fill::overflow, Fill::normal}) {
    check_rope<Bf16, true>("b=1,hq=1,nq=90,nk=200,d=64,pos=rope:10000", fill);
  }
}

TEST_CASE("hopper on the host: rotated rows from tensors that are not aligned") {
  const Problem p = Problem::parse("b=2,hq=3,hk=3,nq=5,nk=7,d=24,dtype=bf16,pos=rope:10000");
  using Scratch = RotatedScratch<RotatedAhead::q_and_k>;
  HostWorkspace workspace([&](Workspace& counting) { Scratch::take(p, counting, hopper_tiles_of(p)); });
  const Scratch scratch = Scratch::take(p, workspace.granting, hopper_tiles_of(p));
  scratch.prepare(HostQueue(), p);
  const Inputs<float> inputs = make_inputs(p, Fill::normal, 7);
  const auto rotated = [&](int64_t gap) {
    run_forward<Bf16>(p, inputs, {false, gap}, [&](const Forward& forward) {
      REQUIRE(gpu_tensor<const Bf16>(forward.q).aligned(p.head_dim) == (gap == 0));
      rotate_ahead<Bf16>(HostQueue(), p, forward, scratch.rotated);
    });
    std::vector<uint16_t> rows(scratch.rotated.q, scratch.rotated.q + inputs.q.size());
    rows.insert(rows.end(), scratch.rotated.k, scratch.rotated.k + inputs.k.size());
    return rows;
  };
  CHECK(rotated(0) == rotated(3));
}

TEST_CASE("hopper on the host: an error in the terms or the angles shows") {
  const Problem shaw = Problem::parse("b=1,hq=1,nq=200,nk=330,d=64,pos=shaw-keys:6,dtype=bf16"),
                rope = Problem::parse("b=1,hq=1,nq=100,nk=200,d=128,pos=rope:10000,dtype=bf16");
  const Inputs<float> inputs = make_inputs(shaw, Fill::normal, 7),
                      rope_inputs = make_inputs(rope, Fill::normal, 7);
  Inputs<float> reversed = inputs;  // distances with the other sign
  std::reverse(reversed.shaw_key.begin(), reversed.shaw_key.end());
  for (auto row = reversed.shaw_key.begin(); row != reversed.shaw_key.end(); row += shaw.head_dim) {
    std::reverse(row, row + shaw.head_dim);
  }
  const Truth truth = make_truth(shaw, inputs, {});
  const auto judged = [&](const Inputs<float>& used, const std::function<void(FlashShawArgs&)>& spoil) {
    Launch launch;
    launch.spoil_terms = spoil;
    return compare(shaw, truth, run_hopper<Bf16, kPersistent, true>(shaw, used, {}, launch)).ok;
  };
  CHECK(judged(inputs, nullptr));
  CHECK_FALSE(judged(reversed, nullptr));
  CHECK_FALSE(judged(inputs, [](FlashShawArgs& args) { ++args.nearest; }));
  CHECK_FALSE(judged(inputs, [](FlashShawArgs& args) { --args.nearest; }));

  const Truth rotated_truth = make_truth(rope, rope_inputs, {.operand_rounding = rotated_rounding(rope)});
  const auto rotated = [&](const std::function<void(RopeAngles&)>& spoil) {
    Launch launch;
    launch.spoil_angles = spoil;
    return compare(rope, rotated_truth, run_rotated<Bf16, kPersistent>(rope, rope_inputs, {}, launch));
  };
  const auto negate_sines = [](RopeAngles& angles) {
    for (int64_t k = 0; k < angles.positions * angles.pairs; ++k) angles.sine[k] = -angles.sine[k];
  };
  CHECK(rotated(nullptr).ok);
  CHECK_FALSE(rotated([](RopeAngles& angles) { std::swap(angles.cosine, angles.sine); }).ok);
  CHECK_FALSE(rotated(negate_sines).ok);
  // without RoPE at all
  CHECK_FALSE(rotated([](RopeAngles& angles) {
                std::fill_n(angles.cosine, angles.positions * angles.pairs, 1.0f);
                std::fill_n(angles.sine, angles.positions * angles.pairs, 0.0f);
              }).ok);

  const auto inside = [&](const std::function<void(HopperRope&)>& spoil) {
    Launch launch;
    launch.spoil_rope = spoil;
    return compare(rope, rotated_truth, run_rope<Bf16, false>(rope, rope_inputs, {}, launch)).ok;
  };
  CHECK(inside(nullptr));
  CHECK_FALSE(inside([](HopperRope& of) { std::swap(of.cosine, of.sine); }));
  CHECK_FALSE(inside([](HopperRope& of) { --of.first_row; }));
  CHECK_FALSE(inside([](HopperRope& of) { of.interleaved = true; }));
  CHECK_FALSE(inside([](HopperRope& of) { of.pairs /= 2; }));
}

TEST_CASE("hopper on the host: NaN in values a row does not see, with queries rotated inside") {
  const Problem p = Problem::parse("b=1,hq=1,nq=150,nk=150,d=120,dv=72,mask=causal,pos=rope:100,dtype=bf16");
  Inputs<float> inputs = make_inputs(p, Fill::normal, 3);
  std::fill_n(inputs.v.begin() + 80 * p.value_dim, p.value_dim, kNan);
  const Outputs<float> ahead = run_rotated<Bf16, kPersistent>(p, inputs, {}, {}),
                       found = run_rope<Bf16, false>(p, inputs, {}, {});
  REQUIRE(std::isnan(found.o.back()));
  REQUIRE_FALSE(std::isnan(found.o.front()));
  CHECK(same_bits(found, ahead));
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

/// Whether one of four orders of a launch with the error fails or misses the bounds.
template <class Run>
bool shows(HostFault fault, int nth, const Problem& p, const Truth& truth, const Run& run) {
  for (uint64_t seed = 1; seed <= 4; ++seed) {
    try {
      Launch launch;
      launch.how = {seed, fault, nth, 1024};
      launch.blocks = 1;  // three rows of tiles: every ring turns
      if (!compare(p, truth, run(launch)).ok) return true;
    } catch (const std::logic_error&) {
      return true;
    }
  }
  return false;
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
    INFO("fault " << static_cast<int>(fault) << " nth " << nth);
    CHECK(shows(fault, nth, p, truth,
                [&](const Launch& launch) { return run_hopper<Bf16, kPersistent>(p, inputs, {}, launch); }));
  }
}

TEST_CASE("hopper on the host: an error around the queries that the kernel rotates shows") {
  const Problem p = Problem::parse("b=1,hq=1,nq=384,nk=200,d=128,pos=rope:10000,dtype=bf16");
  const Inputs<float> inputs = make_inputs(p, Fill::peaked, 7);
  const Truth truth = make_truth(p, inputs, {.operand_rounding = rotated_rounding(p)});
  const auto run = [&](const Launch& launch) { return run_rope<Bf16, false>(p, inputs, {}, launch); };
  const HostFault fault =
      GENERATE(HostFault::wait_skipped, HostFault::parity_flipped, HostFault::count_one_more,
               HostFault::count_one_less, HostFault::proxy_fence_skipped);
  const bool of_fences = fault == HostFault::proxy_fence_skipped;
  // in the order of initialisation: four barriers of each buffer of K and V, then q_full, q_loaded, q_empty,
  // index_full of the first buffer of queries
  for (const int nth : of_fences ? std::vector<int>{0, 1, 50, 95} : std::vector<int>{8, 9, 10, 11}) {
    INFO("fault " << static_cast<int>(fault) << " nth " << nth);
    CHECK(shows(fault, nth, p, truth, run));
  }
}
