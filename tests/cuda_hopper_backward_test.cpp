// flash/cuda/hopper's backward on the host, thread by thread over modelled instructions (tests/host_sm90.h),
// behind flash/cuda/mma's forward: against the float64 oracle's gradients and their bounds, bitwise alike in
// every interleaving.

#include <functional>
#include <random>

#include "tests/host_sm90.h"
// kernels come behind their instructions
#include "tests/block_file.h"
#include "tests/host_backward.h"
#include "variants/flash/flash_hopper_rotated_backward.cuh"

using namespace attn;

namespace {

struct HopperRun {
  HostRun how;
  int resident = 3;  ///< thread blocks at a time
};

/// Scratch: of the backward without a position, or with RoPE. enqueue(arguments, scratch, map, launch).
template <class T, class Scratch, class Enqueue>
Outputs<float> run_with(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                        const HopperRun& run, Enqueue enqueue) {
  const HostQueue queue;
  HostWorkspace before([&](Workspace& counting) { FlashMmaScratch::take(p, counting); });
  HostWorkspace after([&](Workspace& counting) { Scratch::take(p, counting); });
  FlashMmaScratch::take(p, before.granting).prepare(queue, p);
  before.granting.rewind();
  const Scratch scratch = Scratch::take(p, after.granting);
  scratch.prepare(queue, p);
  HostTensorMaps maps;
  return run_backward<T>(
      p, inputs, layout,
      [&](const Forward& args) {
        flash_mma_forward<T>(queue, p, args, FlashMmaScratch::take(p, before.granting));
      },
      [&](const Backward& args) {
        enqueue(
            args, scratch,
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
template <class T>
Outputs<float> run_hopper_backward_as(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                                      const HopperRun& run) {
  if (p.position.rope()) {
    return run_with<T, RotatedBackwardScratch>(
        p, inputs, layout, run, [&](const Backward& args, const auto& scratch, auto map, auto launch) {
          rotated_backward<T>(HostQueue(), p, args, scratch, map, launch);
        });
  }
  return run_with<T, FlashHopperBackwardScratch>(
      p, inputs, layout, run, [&](const Backward& args, const auto& scratch, auto map, auto launch) {
        flash_hopper_backward<T>(HostQueue(), p, args, scratch, map, launch);
      });
}
Outputs<float> run_hopper_backward(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                                   const HopperRun& run) {
  return p.dtype == Dtype::bf16 ? run_hopper_backward_as<Bf16>(p, inputs, layout, run)
                                : run_hopper_backward_as<F16>(p, inputs, layout, run);
}

void check_hopper_backward(const std::string& text, int seeds = 2, Fill fill = Fill::peaked) {
  const Problem p = Problem::parse(text + ",pass=bwd");
  const bool rope = p.position.rope();
  REQUIRE((rope ? rotated_gradient_supports(p) : hopper_gradient_supports(p)).reason == "");
  const Inputs<float> inputs = make_checked_inputs(p, fill, 7);
  const Truth truth =
      make_truth(p, inputs, {.operand_rounding = rope ? rotated_rounding(p) : OperandRounding{}});
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

TEST_CASE("flash/cuda/hopper's backward on the host: key lengths") {
  const std::string shape = GENERATE("b=3,hq=2,hk=1,nq=200,nk=300,d=64", "b=3,hq=2,hk=1,nq=200,nk=300,d=128");
  check_hopper_backward(shape + ",dtype=bf16,mask=padding:300/131/0" +
                        GENERATE("", "+causal", "+window:20:*", "+window:3:9"));
}
TEST_CASE("flash/cuda/hopper's backward on the host: block masks") {
  std::mt19937 random(5);
  const std::string width = GENERATE("64", "128");
  const BlockFile coarse("100 128 3 3\n0 2\n\n1 2\n"), fine(random_blocks(random, 300, 260, 3, 7));
  for (const BlockFile* file : {&coarse, &fine}) {
    for (const char* more : {"", "+causal", "+padding:190"}) {
      check_hopper_backward("b=1,hq=2,hk=1,nq=300,nk=260,d=" + width +
                            ",dtype=bf16,mask=blocks:" + file->path + more);
    }
  }
}
TEST_CASE("flash/cuda/hopper's backward on the host: documents") {
  const std::string shape = GENERATE("b=2,hq=2,hk=1,nq=270,nk=270,d=64", "b=2,hq=2,hk=1,nq=270,nk=270,d=128");
  check_hopper_backward(
      shape + ",dtype=bf16,mask=document:" +
      GENERATE("70/1/130", "128+causal", "90/200+window:30:5", "500", "150/60+padding:50%/9"));
}

TEST_CASE("flash/cuda/hopper's backward on the host: ALiBi and softcap") {
  const std::string shape = GENERATE("b=1,hq=2,hk=1,nq=140,nk=260,d=64", "b=1,hq=2,hk=1,nq=140,nk=260,d=128",
                                     "b=2,hq=2,hk=2,nq=70,nk=40,d=72,dv=40");
  const std::string what =
      GENERATE(",pos=alibi", ",softcap=3", ",softcap=20,pos=alibi", ",softcap=2,scale=-0.2");
  check_hopper_backward(shape + what + ",dtype=bf16,mask=causal");
  check_hopper_backward(shape + what + ",dtype=f16,mask=window:90:30+padding:80%", 1, Fill::normal);
}
TEST_CASE("flash/cuda/hopper/rotated's backward on the host") {
  const std::string shape = GENERATE("b=2,hq=2,hk=1,nq=140,nk=300,d=64", "b=1,hq=2,hk=1,nq=140,nk=300,d=128",
                                     "b=1,hq=1,nq=150,nk=130,d=48,dv=64", "b=1,hq=1,nq=70,nk=130,d=80,dv=24");
  const std::string position = GENERATE(",pos=rope:10000", ",pos=rope-interleaved:500");
  check_hopper_backward(shape + position + ",dtype=bf16,mask=causal");
  check_hopper_backward(shape + position + ",dtype=f16,mask=padding:60%,softcap=4", 1, Fill::normal);
}

namespace {

/// Whether one of some orders of a launch with the error fails or misses the bounds.
struct FaultyLaunch {
  Problem p = Problem::parse("b=1,hq=1,nq=330,nk=140,d=128,dtype=bf16,mask=padding:131,pass=bwd");
  Inputs<float> inputs = make_checked_inputs(p, Fill::peaked, 7);
  Truth truth = make_truth(p, inputs, {});

  bool shows(HostFault fault, int nth, uint64_t orders) const {
    for (uint64_t seed = 1; seed <= orders; ++seed) {
      try {
        const HopperRun run{{seed, fault, nth, 1024}, 2};
        if (!compare(p, truth, run_hopper_backward(p, inputs, {}, run)).ok) return true;
      } catch (const std::logic_error&) {
        return true;
      }
    }
    return false;
  }
};

}  // namespace

TEST_CASE("flash/cuda/hopper's backward on the host: an error in any of the protocol's instructions shows") {
  const HostFault fault = GENERATE(
      HostFault::arrival_lost, HostFault::arrival_doubled, HostFault::count_one_more,
      HostFault::count_one_less, HostFault::wait_skipped, HostFault::parity_flipped, HostFault::bytes_short,
      HostFault::load_shifted, HostFault::load_late_row, HostFault::named_skipped,
      HostFault::group_wait_short, HostFault::proxy_fence_skipped, HostFault::register_wait_skipped);
  const FaultyLaunch launch;
  for (int nth = 0; nth < 6; ++nth) {
    INFO("fault " << static_cast<int>(fault) << " nth " << nth);
    CHECK(launch.shows(fault, nth, 4));
  }
}
TEST_CASE("flash/cuda/hopper's backward on the host: a wait for the stores of dQ that is left out shows") {
  const FaultyLaunch launch;
  for (const int nth : {0, 1, 10, 15, 16, 17}) {  // three a step; those before the counter seldom matter here
    INFO("nth " << nth);
    CHECK(launch.shows(HostFault::store_wait_skipped, nth, 30));
  }
}

namespace {

struct RandomMask {
  MaskRule rule;
  int64_t seq_q = 0;
  std::vector<KeyLength> lengths;
  std::vector<DocumentSpan> documents;
  std::vector<uint8_t> blocks;

  bool sees(int64_t b, int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {
    for (int64_t i = i0; i < std::min(i1, seq_q); ++i) {
      for (int64_t j = j0; j < std::min(j1, rule.seq_kv); ++j) {
        if (rule.allows(b, i, j)) return true;
      }
    }
    return false;
  }
  bool sees_all(int64_t b, int64_t i0, int64_t i1, int64_t j0, int64_t j1) const {
    if (j1 > rule.seq_kv) return false;
    for (int64_t i = i0; i < std::min(i1, seq_q); ++i) {
      for (int64_t j = j0; j < j1; ++j) {
        if (!rule.allows(b, i, j)) return false;
      }
    }
    return true;
  }
};

using Below = std::function<int64_t(int64_t)>;  ///< a number from 0 on below the argument

RandomMask random_mask(const Below& below, int64_t batch) {
  RandomMask mask;
  mask.seq_q = 1 + below(500);
  mask.rule.seq_kv = 1 + below(700);
  const bool documents = below(3) == 0;
  if (documents) mask.rule.seq_kv = mask.seq_q;
  const int64_t offset = mask.rule.seq_kv - mask.seq_q;
  switch (below(4)) {
    case 0:
      break;
    case 1:
      mask.rule.band_high = offset;
      break;
    case 2:
      mask.rule.band_high = documents ? below(200) : below(900) - 450;
      mask.rule.band_low = documents ? -below(200) : mask.rule.band_high - below(300);
      break;
    default:
      if (documents) break;
      mask.rule.band_low = below(900) - 450;
      mask.rule.band_high = mask.rule.band_low + below(40) - 3;  // at times nothing at all
  }
  if (documents) {
    const auto end = static_cast<int32_t>(mask.seq_q + MaskRule::kBehind);
    while (static_cast<int32_t>(mask.documents.size()) < end) {
      const auto begin = static_cast<int32_t>(mask.documents.size());
      const auto length = static_cast<int32_t>(1 + below(below(2) ? 300 : 20));
      mask.documents.resize(static_cast<size_t>(begin + length), {begin, begin + length});
    }
    mask.rule.documents = mask.documents.data();
  }
  if (below(2)) {
    for (int64_t b = 0; b < batch; ++b) mask.lengths.push_back({below(mask.rule.seq_kv + 1)});
    mask.rule.lengths = mask.lengths.data();
    mask.rule.lengths_count = batch;
  }
  if (below(3) == 0) {
    mask.rule.block_q = 1 + below(200);
    mask.rule.block_kv = 1 + below(200);
    mask.rule.block_columns = (mask.rule.seq_kv + mask.rule.block_kv - 1) / mask.rule.block_kv;
    const int64_t rows = (mask.seq_q + mask.rule.block_q - 1) / mask.rule.block_q, density = below(5);
    for (int64_t k = 0; k < rows * mask.rule.block_columns; ++k) mask.blocks.push_back(below(4) < density);
    mask.rule.blocks = mask.blocks.data();
  }
  return mask;
}

/// Of one batch entry: every block meets the tiles that see it, and knows which of the others were there.
void check_tiles(const HopperGradientTiles& tiles, const RandomMask& mask, int b,
                 const std::map<std::array<int, 3>, uint32_t>& tickets) {
  for (int tile = 0; tile < tiles.query_tiles; ++tile) {
    const int64_t i0 = int64_t{tile} * tiles.queries, i1 = i0 + tiles.queries;
    int before = 0;
    for (int block = 0; block < tiles.key_blocks; ++block) {
      const int64_t j0 = int64_t{block} * HopperGradientTiles::kKeys, j1 = j0 + HopperGradientTiles::kKeys;
      const auto place = tiles.place_of(tickets.at({b, 0, block}));
      bool visits = false;
      int at = place.last - 1;
      for (int left = place.count; left > 0; --left, at = tiles.after(place, at))
        visits = visits || at == tile;
      if (place.count > 0) REQUIRE(at == place.last - 1);
      const bool sees = mask.sees(b, i0, i1, j0, j1);
      REQUIRE((visits == sees || (visits && mask.rule.blocks)));
      if (!visits) continue;
      REQUIRE(tiles.rank(place, tile) == before);
      ++before;
      if (!tiles.is_partial(place, tile)) REQUIRE(mask.sees_all(b, i0, i1, j0, j1));
    }
  }
}

/// What the tensor maps leave out is what nothing sees; all of it, unless the kernel clears the rest.
void check_rows(const HopperGradientTiles& tiles, const RandomMask& mask, int batch) {
  const auto within = [](const TileRange& rows, int64_t row) { return row >= rows.first && row < rows.last; };
  const TileRange queries = tiles.seeing_queries(), keys = tiles.seen_keys();
  for (int b = 0; b < batch; ++b) {
    for (int64_t i = 0; i < mask.seq_q; ++i) {
      const bool sees = mask.sees(b, i, i + 1, 0, mask.rule.seq_kv);
      REQUIRE((within(queries, i) == sees || (!sees && tiles.has_unseen_rows())));
    }
    for (int64_t j = 0; j < mask.rule.seq_kv; ++j) {
      const bool seen = mask.sees(b, 0, mask.seq_q, j, j + 1);
      REQUIRE((within(keys, j) == seen || (!seen && tiles.has_unseen_rows())));
    }
  }
}

}  // namespace

TEST_CASE("blocks of the Hopper backward meet what sees them, in an order that never waits in a circle") {
  std::mt19937_64 random(11);
  const Below below = [&](int64_t count) {
    return static_cast<int64_t>(random() % static_cast<uint64_t>(count));
  };
  for (int turn = 0; turn < 200; ++turn) {
    const auto batch = static_cast<int>(1 + below(3)), heads_kv = static_cast<int>(1 + below(3));
    const RandomMask mask = random_mask(below, batch);
    const int queries = below(2) ? 64 : 128;
    HopperGradientTiles tiles =
        HopperGradientTiles::of(batch, 2 * heads_kv, heads_kv, mask.seq_q, mask.rule, queries);
    tiles.interleaved = static_cast<int>(1 + below(tiles.heads));
    HopperGradientVisits::Lists lists =
        HopperGradientVisits::list(mask.rule, mask.seq_q, HopperGradientTiles::kKeys, queries);
    if (mask.rule.blocks) tiles.visits = {lists.visits.data(), lists.spans.data(), tiles.query_tiles};
    std::map<std::array<int, 3>, uint32_t> tickets;
    for (uint32_t ticket = 0; ticket < tiles.blocks(); ++ticket) {
      const auto place = tiles.place_of(ticket);
      REQUIRE(
          (place.b >= 0 && place.b < batch && place.head_kv < heads_kv && place.block < tiles.key_blocks));
      REQUIRE(tickets.emplace(std::array<int, 3>{place.b, place.head_kv, place.block}, ticket).second);
      for (int block = 0; block < place.block; ++block) {  // whom it may wait for has drawn before
        REQUIRE(tickets.count({place.b, place.head_kv, block}) == 1);
      }
    }
    for (int b = 0; b < batch; ++b) check_tiles(tiles, mask, b, tickets);
    check_rows(tiles, mask, batch);
  }
}

TEST_CASE("the Hopper backward says what it does not support, and what it takes") {
  const auto reason = [](const std::string& text) {
    return hopper_gradient_supports(Problem::parse("b=1,hq=2,nq=64,pass=bwd," + text)).reason;
  };
  CHECK(reason("d=64,dtype=bf16") == "");
  CHECK(reason("d=128,dtype=f16,mask=causal+window:9:*") == "");
  CHECK(reason("d=64,dtype=f32") == "bf16 and f16 only");
  CHECK(reason("d=136,dtype=bf16") == "backward: d and dv at most 128");
  CHECK(reason("d=60,dtype=bf16") == "d and dv multiples of 8, as TMA reads them");
  CHECK(reason("d=64,dtype=bf16,mask=document:9/5+padding:9") == "");
  CHECK(reason("d=64,dtype=bf16,pos=alibi,softcap=5") == "");
  CHECK(reason("d=64,dtype=bf16,pos=t5:8:20") == "backward: no position but ALiBi");
  CHECK(reason("d=64,dtype=bf16,pos=rope:100") == "backward: no position but ALiBi");
  const auto rotated = [](const std::string& text) {
    return rotated_gradient_supports(
               Problem::parse("b=1,hq=1,nq=64,pass=bwd,dtype=bf16,pos=rope:100," + text))
        .reason;
  };
  CHECK(rotated("d=80") == "");
  CHECK(rotated("d=72") == "backward with RoPE: d a multiple of 16");
  CHECK(rotated("d=136") == "backward with RoPE: d a multiple of 16");
  CHECK(rotated("d=144") == "backward: d and dv at most 128");

  const Problem p = Problem::parse("b=2,hq=4,hk=2,nq=300,nk=500,d=128,dtype=bf16,pass=bwd");
  Workspace counting;
  FlashHopperBackwardScratch::take(p, counting);
  CHECK(counting.bytes() == 2 * 4 * (2 * 384 * 4 + 5 * (64 * 128 * 4 + 4)) + 4);
  const Cost cost = flash_hopper_backward_cost(p);
  CHECK(cost.flops_executed == 2.0 * 5 * 128 * (2 * 4 * (4 * 128) * (5 * 64)));
  CHECK(cost.exps == 2.0 * 4 * (4 * 128) * (5 * 64));
}
