// The Hopper kernel whose tiles hold the rows of several heads (flash_cuda_hopper_packed.cu), on the host as
// in cuda_hopper_test.cpp: its own source over modelled instructions, against the float64 oracle and its
// bounds, in several interleavings. Errors planted into boxes, heads and queries must show.

#include "tests/host_hopper_forward.h"

using namespace attn;

namespace {

template <class T>
struct Launch : HostHopperLaunch {
  int splits = 1;
  std::function<void(FlashHopperArgs<T>&, HostTensorMaps&)> spoil = nullptr;
  std::function<void(const HopperScratch&)> spoil_splits = nullptr;
};

template <class T, int kWidth>
void launch_width(const FlashHopperArgs<T>& args, const Launch<T>& launch) {
  constexpr HopperKind kKind = HopperKind::packed;
  launch_on_host(FlashHopper<T, kWidth, kKind, hopper_best_rung(kWidth, kKind)>{args}, launch);
}
template <class T>
Outputs<float> run_packed(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                          const Launch<T>& launch) {
  HopperTiles tiles = hopper_packed_tiles(p);
  tiles.splits = launch.splits;
  HostWorkspace workspace([&](Workspace& counting) { HopperScratch::take(p, counting, tiles); });
  const HopperScratch scratch = HopperScratch::take(p, workspace.granting, tiles);
  scratch.prepare(HostQueue(), p);
  return run_forward<T>(p, inputs, layout, [&](const Forward& forward) {
    HostTensorMaps maps;
    const int width = tiles.width;
    auto args = host_hopper_args<T>(maps, p, forward, scratch, tiles);
    if (launch.spoil) launch.spoil(args, maps);
    if (width == 64) launch_width<T, 64>(args, launch);
    if (width == 128) launch_width<T, 128>(args, launch);
    if (width == 256) launch_width<T, 256>(args, launch);
    REQUIRE(*scratch.taken == 0);
    if (launch.spoil_splits) launch.spoil_splits(scratch);
    hopper_merge<T>(HostQueue(), p, forward, scratch);
  });
}

Problem parse(const std::string& text, Dtype dtype) {
  return Problem::parse(text + (dtype == Dtype::bf16 ? ",dtype=bf16" : ",dtype=f16"));
}
template <class T>
void check_packed(const std::string& text, Fill fill = Fill::peaked, uint64_t orders = 3) {
  const Problem p = parse(text, std::is_same_v<T, Bf16> ? Dtype::bf16 : Dtype::f16);
  const Inputs<float> inputs = make_inputs(p, fill, 7);
  const Truth truth = make_truth(p, inputs, {});
  for (uint64_t seed = 1; seed <= orders; ++seed) {
    const HostLayout layout{seed % 2 == 0, seed % 2 == 0 ? 8 : 0};
    Launch<T> launch;
    launch.how.seed = seed;
    launch.how.shared_first = seed % 2 == 0 ? 1024 : 1040;
    launch.blocks = 1 + static_cast<int>(seed % 3);
    launch.splits = 1 + static_cast<int>(2 * (seed - 1) % 7);  // 1, 3, 5, 7, 2, ..
    const Verdict verdict = compare(p, truth, run_packed<T>(p, inputs, layout, launch));
    INFO(text << " seed " << seed << " splits " << launch.splits << " fill " << to_text(fill) << ": "
              << verdict.reason);
    CHECK(verdict.ok);
  }
}

/// A tensor map of the kernel's, changed.
template <class Change>
TensorMap changed(const TensorMap& map, HostTensorMaps& maps, const Change& change) {
  HostTensorMap copy = HostTensorMaps::of(&map);
  change(copy);
  return maps.add(copy);
}

}  // namespace

TEST_CASE("packed hopper on the host: groups, widths and numbers of queries") {
  for (const char* text : {"b=1,hq=4,hk=2,nq=1,nk=150,d=128", "b=2,hq=8,hk=2,nq=5,nk=200,d=40",
                           "b=1,hq=16,hk=2,nq=17,nk=130,d=72", "b=1,hq=16,hk=1,nq=33,nk=300,d=128",
                           "b=1,hq=4,hk=2,nq=129,nk=90,d=256", "b=1,hq=8,hk=1,nq=129,nk=260,d=128,dv=40",
                           "b=1,hq=6,hk=1,nq=100,nk=140,d=64",          // packs of 2
                           "b=1,hq=12,hk=1,nq=33,nk=140,d=128",         // of 4
                           "b=1,hq=6,hk=2,nq=33,nk=140,d=64",           // of 1
                           "b=1,hq=32,hk=1,nq=9,nk=81,d=256,dv=64"}) {  // of 16, two to a group
    check_packed<Bf16>(text);
  }
  check_packed<F16>("b=2,hq=8,hk=2,nq=33,nk=200,d=128");
  check_packed<F16>("b=1,hq=4,hk=1,nq=40,nk=100,d=200");
  check_packed<F16>("b=1,hq=16,hk=1,nq=20,nk=100,d=64");
}

TEST_CASE("packed hopper on the host: masks") {
  for (const char* text :
       {"b=1,hq=16,hk=1,nq=33,nk=300,d=128,mask=causal", "b=1,hq=8,hk=2,nq=100,nk=100,d=40,mask=causal",
        "b=1,hq=4,hk=1,nq=129,nk=200,d=128,mask=causal:topleft",
        "b=1,hq=8,hk=1,nq=100,nk=400,d=64,mask=window:60:0",
        "b=1,hq=12,hk=2,nq=70,nk=300,d=256,mask=window:40:9",
        "b=2,hq=8,hk=1,nq=33,nk=300,d=128,mask=padding:130/299",
        "b=3,hq=4,hk=2,nq=65,nk=260,d=72,mask=causal+padding:260/90/0",
        "b=1,hq=2,hk=1,nq=129,nk=260,d=128,mask=causal+window:70:*",
        "b=1,hq=8,hk=1,nq=129,nk=40,d=64,mask=causal",  // rows without keys, also whole tiles of them
        "b=1,hq=4,hk=1,nq=3,nk=0,d=16"}) {
    check_packed<Bf16>(text);
  }
  check_packed<F16>("b=1,hq=8,hk=1,nq=100,nk=300,d=128,mask=causal");
}

TEST_CASE("packed hopper on the host: many orders") {
  check_packed<Bf16>("b=2,hq=8,hk=2,nq=70,nk=300,d=128,mask=causal", Fill::peaked, 24);
}

TEST_CASE("packed hopper on the host: late and large maxima") {
  for (const Fill fill : {Fill::late_max, Fill::overflow, Fill::integers, Fill::normal}) {
    check_packed<Bf16>("b=1,hq=8,hk=1,nq=40,nk=400,d=64,mask=causal", fill);
    check_packed<F16>("b=1,hq=4,hk=1,nq=40,nk=300,d=128", fill);
  }
}

TEST_CASE("packed hopper on the host: NaN in keys a row does not see leaves the row as it was") {
  Launch<Bf16> launch;
  launch.splits = GENERATE(1, 2);
  const Problem p = parse("b=1,hq=8,hk=2,nq=70,nk=190,d=128,dv=72,mask=causal", Dtype::bf16);
  const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
  Inputs<float> poisoned = clean;
  constexpr int64_t kBad = 150, kBadHead = 1;  // of the keys and values
  const auto row = kBad * p.heads_kv + kBadHead;
  std::fill_n(poisoned.k.begin() + row * p.head_dim, p.head_dim, kNan);
  std::fill_n(poisoned.v.begin() + row * p.value_dim, p.value_dim, kNan);
  const Outputs<float> expected = run_packed<Bf16>(p, clean, {}, launch),
                       found = run_packed<Bf16>(p, poisoned, {}, launch);
  const MaskRule rule = p.mask_rule();
  for (int64_t i = 0; i < p.seq_q; ++i) {
    for (int64_t h = 0; h < p.heads_q; ++h) {
      const bool sees = h / p.group() == kBadHead && rule.allows(0, i, kBad);
      for (int64_t c = 0; c < p.value_dim; ++c) {
        const auto e = static_cast<size_t>((i * p.heads_q + h) * p.value_dim + c);
        INFO("row " << i << " head " << h << " channel " << c);
        if (sees) CHECK(std::isnan(found.o[e]));
        if (!sees) CHECK(std::abs(found.o[e] - expected.o[e]) <= 0.01f * std::abs(expected.o[e]) + 0.01f);
      }
    }
  }
}

TEST_CASE("packed hopper on the host: errors in packs and boxes show") {
  using Args = FlashHopperArgs<Bf16>;
  const Problem p = parse("b=1,hq=8,hk=2,nq=32,nk=150,d=128,mask=causal", Dtype::bf16);
  const Inputs<float> inputs = make_inputs(p, Fill::peaked, 7);
  const Truth truth = make_truth(p, inputs, {});
  const Outputs<float> right = run_packed<Bf16>(p, inputs, {}, {});
  REQUIRE(compare(p, truth, right).ok);
  struct Found {
    bool o, lse;  ///< each beside the other as it should be
  };
  const auto judged = [&](const std::function<void(Args&, HostTensorMaps&)>& spoil) {
    std::vector<float> spare(2 * right.lse.size(), kNan);  // a shift too large goes beyond
    Launch<Bf16> launch;
    launch.spoil = [&](Args& args, HostTensorMaps& maps) {
      args.lse = spare.data();
      if (spoil) spoil(args, maps);
    };
    Outputs<float> o = run_packed<Bf16>(p, inputs, {}, launch), lse = right;
    o.lse = right.lse;
    std::copy_n(spare.begin(), lse.lse.size(), lse.lse.begin());
    return Found{compare(p, truth, o).ok, compare(p, truth, lse).ok};
  };
  const auto one_head = [](HostTensorMap& map) {
    map.box[2] *= map.box[1];
    map.box[1] = 1;
  };
  const auto exchanged = [](HostTensorMap& map) {  // query / heads with head % queries
    std::swap(map.box[1], map.box[2]);
    std::swap(map.sizes[1], map.sizes[2]);
    std::swap(map.strides[0], map.strides[1]);
  };

  const Found none = judged(nullptr);
  CHECK((none.o && none.lse));
  for (const int error : {-1, 1}) {
    const Found shifted = judged([&](Args& args, HostTensorMaps&) { args.pack_shift += error; });
    CHECK_FALSE(shifted.o);
    CHECK_FALSE(shifted.lse);
  }
  CHECK_FALSE(judged([&](Args& args, HostTensorMaps& maps) {
                args.q_map = changed(args.q_map, maps, one_head);
              }).lse);
  CHECK_FALSE(
      judged([&](Args& args, HostTensorMaps& maps) { args.o_map = changed(args.o_map, maps, one_head); }).o);
  CHECK_FALSE(judged([&](Args& args, HostTensorMaps& maps) {
                args.q_map = changed(args.q_map, maps, exchanged);
              }).lse);
  CHECK_FALSE(
      judged([&](Args& args, HostTensorMaps& maps) { args.o_map = changed(args.o_map, maps, exchanged); }).o);
  CHECK_FALSE(judged([&](Args& args, HostTensorMaps&) { args.lse += p.seq_q; }).lse);
}

TEST_CASE("packed hopper on the host: splits of the keys, and errors in what they leave") {
  const Problem p = parse("b=2,hq=8,hk=2,nq=20,nk=600,d=128,dv=40,mask=causal", Dtype::bf16);
  const Inputs<float> inputs = make_inputs(p, Fill::peaked, 7);
  const Truth truth = make_truth(p, inputs, {});
  Launch<Bf16> launch;
  launch.splits = 3;
  const auto judged = [&](std::function<void(const HopperScratch&)> spoil) {
    launch.spoil_splits = std::move(spoil);
    return compare(p, truth, run_packed<Bf16>(p, inputs, {}, launch)).ok;
  };
  CHECK(judged(nullptr));
  CHECK_FALSE(judged([](const HopperScratch& scratch) { scratch.partial_rl->x += 1; }));
  CHECK_FALSE(judged([](const HopperScratch& scratch) { scratch.partial_rl->y *= 1.1f; }));
  CHECK_FALSE(judged([](const HopperScratch& scratch) { --scratch.starts[1]; }));
  CHECK_FALSE(judged([](const HopperScratch& scratch) { ++scratch.starts[1]; }));
  CHECK_FALSE(judged([&](const HopperScratch& scratch) { scratch.partial_o[p.value_dim - 1] += 1; }));
}
