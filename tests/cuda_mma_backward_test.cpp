// flash/cuda/mma's backward on the host (tests/host_block.h, host_warp.h), behind its own forward: against
// the float64 oracle's gradients and their bounds, bitwise alike in every schedule.

#include <set>

#include "tests/host_mma_backward.h"
#include "variants/flash/flash_mma_backward.cuh"

using namespace attn;

namespace {

template <class T>
Outputs<float> run_mma_as(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                          const HostLayout& layout) {
  return run_mma_backward<T, FlashMmaBackwardScratch>(
      p, inputs, schedule, layout,
      [&](const HostQueue& queue, const Backward& args, const FlashMmaBackwardScratch& scratch) {
        flash_mma_backward<T>(queue, p, args, scratch);
      });
}
Outputs<float> run_mma(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                       const HostLayout& layout) {
  return p.dtype == Dtype::bf16 ? run_mma_as<Bf16>(p, inputs, schedule, layout)
                                : run_mma_as<F16>(p, inputs, schedule, layout);
}

const std::vector<const char*> kDtypes = {",dtype=bf16", ",dtype=f16"};

void check_mma(const std::string& text) {
  for (const char* dtype : kDtypes) check_backward(text + dtype, run_mma);
}

}  // namespace

TEST_CASE("flash/cuda/mma's backward on the host agrees with the oracle") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=129,nk=130,d=64,dv=64", "b=2,hq=2,hk=2,nq=3,nk=5,d=8,dv=12",
               "b=1,hq=2,hk=2,nq=130,nk=67,d=41,dv=70", "b=1,hq=1,nq=65,nk=63,d=130,dv=256",
               "b=1,hq=1,nq=1,nk=1,d=1,dv=1", "b=1,hq=3,hk=3,nq=2,nk=0,d=16,dv=16",
               "b=1,hq=1,nq=127,nk=128,d=128,dv=128", "b=1,hq=6,hk=2,nq=31,nk=33,d=16,dv=24");
  check_mma(shape);
  check_mma(shape + ",mask=causal");
  check_mma(shape + ",softcap=5,scale=-0.3");
}

TEST_CASE("flash/cuda/mma's backward on the host: every fill") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=40,nk=70,d=64", "b=1,hq=1,nq=40,nk=70,d=80,mask=causal",
               "b=1,hq=1,nq=20,nk=40,d=200,pos=alibi", "b=1,hq=2,nq=65,nk=40,d=3,mask=window:9:4,softcap=3");
  for (const char* dtype : kDtypes)
    check_backward(shape + dtype, run_mma, all_fills(), {HostLayout{true, 8}});
}

TEST_CASE("flash/cuda/mma's backward on the host: masks") {
  const std::string shape =
      GENERATE("b=2,hq=2,hk=1,nq=90,nk=150,d=20,dv=33,mask=", "b=2,hq=1,hk=1,nq=140,nk=150,d=72,dv=128,mask=",
               "b=2,hq=1,hk=1,nq=40,nk=70,d=129,dv=8,mask=");
  check_mma(shape + GENERATE("causal:topleft", "window:9:4", "padding:33/0", "padding:50%",
                             "causal+window:30:*+padding:64/70"));
}

TEST_CASE("flash/cuda/mma's backward on the host: rows and tiles without pairs") {
  check_mma(std::string("b=1,hq=1,nq=300,nk=66,d=20,dv=20,mask=") + GENERATE("causal", "window:3:3"));
  check_mma("b=1,hq=1,nq=66,nk=300,d=20,dv=20,mask=causal:topleft");
  check_mma("b=1,hq=1,nq=70,nk=66,d=160,dv=20,mask=causal:topleft+window:10:*+padding:30");
}

TEST_CASE("flash/cuda/mma's backward on the host: documents") {
  check_mma(std::string("b=2,hq=2,hk=1,nq=150,mask=") + GENERATE("document:70/3", "causal+document:33/64") +
            GENERATE(",d=20", ",d=72,dv=128", ",d=64,pos=alibi", ",d=160"));
  check_mma("b=2,hq=1,nq=150,d=64,mask=window:20:5+padding:99/150+document:90/7");
}

TEST_CASE("flash/cuda/mma's backward on the host: block masks") {
  const BlockFile odd("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n"), even("64 64 3 4\n0\n1 3\n2\n");
  check_mma("b=1,hq=2,hk=1,nq=90,nk=150,d=20,dv=20,mask=blocks:" + odd.path);
  check_mma("b=1,hq=1,nq=90,nk=150,d=20,dv=200,mask=causal+padding:97+blocks:" + odd.path);
  check_mma("b=1,hq=1,nq=190,nk=250,d=96,mask=blocks:" + even.path);
}

TEST_CASE("flash/cuda/mma's backward on the host: positions") {
  const std::string position = GENERATE("alibi", "t5:8:20", "t5-causal:8:20", "t5:32:128");
  check_mma("b=1,hq=3,hk=1,nq=140,nk=200,d=20,dv=24,pos=" + position);
  check_mma("b=2,hq=2,hk=2,nq=130,nk=70,d=21,dv=9,mask=causal+window:40:*,pos=" + position);
  check_mma("b=1,hq=1,nq=66,nk=100,d=70,dv=12,softcap=3,mask=padding:77,pos=" + position);
  check_mma("b=1,hq=1,nq=40,nk=100,d=64,dv=130,pos=" + position);
}

namespace {

/// Rows of a [batch, seq, heads, width] gradient with b = h = 1: NaN or infinity, or exactly as expected.
void check_rows(const char* name, const std::vector<float>& found, const std::vector<float>& expected,
                int64_t width, const std::set<int64_t>& bad) {
  for (size_t e = 0; e < found.size(); ++e) {
    const auto row = static_cast<int64_t>(e) / width;
    INFO(name << " row " << row);
    if (bad.count(row)) CHECK_FALSE(std::isfinite(found[e]));
    if (!bad.count(row)) CHECK(found[e] == expected[e]);
  }
}

/// Compares the gradients with those of clean inputs: `queries` are spoiled, and so is what they see.
void check_spoiled(const Problem& p, const Inputs<float>& clean, const Inputs<float>& poisoned,
                   const std::set<int64_t>& queries) {
  const MaskRule rule = p.mask_rule();
  std::set<int64_t> keys;
  for (const int64_t i : queries) {
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      if (rule.allows(0, i, j)) keys.insert(j);
    }
  }
  REQUIRE((!queries.empty() && static_cast<int64_t>(keys.size()) < p.seq_kv));
  const Outputs<float> expected = run_mma(p, clean, {}, {}), found = run_mma(p, poisoned, {}, {});
  check_rows("d_q", found.d_q, expected.d_q, p.head_dim, queries);
  check_rows("d_k", found.d_k, expected.d_k, p.head_dim, keys);
  check_rows("d_v", found.d_v, expected.d_v, p.value_dim, keys);
}

}  // namespace

TEST_CASE("flash/cuda/mma's backward on the host: NaN reaches what sees it and nothing else") {
  const std::string shape = GENERATE("b=1,hq=1,nq=150,nk=150,d=16,dv=16,mask=window:12:3",
                                     "b=1,hq=1,nq=150,nk=150,d=128,dv=72,mask=window:70:*+causal,pos=alibi",
                                     "b=1,hq=1,nq=80,nk=90,d=256,dv=256,mask=window:12:3");
  for (const char* dtype : kDtypes) {
    const Problem p = Problem::parse(shape + dtype + ",pass=bwd");
    const Inputs<float> clean = make_inputs(p, Fill::normal, 3);
    const MaskRule rule = p.mask_rule();
    const int64_t bad = 50;
    Inputs<float> keys = clean, gradient = clean;
    std::fill_n(keys.k.begin() + bad * p.head_dim, p.head_dim, kNan);
    std::fill_n(keys.v.begin() + bad * p.value_dim, p.value_dim, kNan);
    gradient.d_o[static_cast<size_t>(bad * p.value_dim + 7)] = INFINITY;
    std::set<int64_t> seeing;
    for (int64_t i = 0; i < p.seq_q; ++i) {
      if (rule.allows(0, i, bad)) seeing.insert(i);
    }
    INFO(shape << dtype);
    if (shape.find("70") == std::string::npos) check_spoiled(p, clean, keys, seeing);
    check_spoiled(p, clean, gradient, {bad});
  }
}

TEST_CASE("blocks of keys meet every query tile that sees them once for each head") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  const std::string mask = GENERATE("none", "causal", "causal:topleft", "window:9:4", "padding:50%/140",
                                    "blocks", "document:70/9");
  const std::string lengths = mask == "document:70/9" ? "nq=150" : "nq=90,nk=150";
  const Problem p = Problem::parse("b=2,hq=6,hk=2,d=8," + lengths +
                                   ",mask=" + (mask == "blocks" ? "blocks:" + file.path : mask));
  using Tiles = FlashGradientTiles<64, 32, true, false>;
  const FlashShape shape = FlashShape::of(p, p.mask_rule());
  std::set<std::vector<int64_t>> met;
  int64_t visited = 0;
  for (int64_t index = 0; index < flash_key_blocks(p, 64); ++index) {
    const Tiles::Place place = Tiles::place_of(shape, index);
    for (Tiles::Step step = Tiles::first(shape, place); !Tiles::done(shape, step);
         step = Tiles::next(shape, place, step)) {
      met.insert({place.b, place.r0 / 64, place.column_head + step.head, step.tile});
      ++visited;
    }
  }
  CHECK(static_cast<int64_t>(met.size()) == visited);
  CHECK(visited == p.heads_q * count_seeing_tiles(p, 64, 32));
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < p.seq_q; ++i) {
      for (int64_t j = 0; j < p.seq_kv; ++j) {
        if (!p.mask_rule().allows(b, i, j)) continue;
        for (int64_t h = 0; h < p.heads_q; ++h) REQUIRE(met.count({b, j / 64, h, i / 32}) == 1);
      }
    }
  }
}

TEST_CASE("blocks of keys: the longest sequences") {
  using Tiles = FlashGradientTiles<64, 32, true, false>;
  const int64_t longest = int64_t{1} << 31;
  const Problem many_keys = Problem::parse("b=1,hq=2,nq=65536,nk=2147483648,d=1,mask=causal");
  const FlashShape shape = FlashShape::of(many_keys, many_keys.mask_rule());
  const Tiles::Place last = Tiles::place_of(shape, 2 * (longest / 64) - 1);
  CHECK((last.row_head == 1 && last.r0 == longest - 64 && last.first == 65536 / 32 - 2));
  const Problem many_queries = Problem::parse("b=1,hq=1,nq=2147483648,nk=64,d=1,mask=causal:topleft");
  const FlashShape tall = FlashShape::of(many_queries, many_queries.mask_rule());
  const Tiles::Place place = Tiles::place_of(tall, 0);
  CHECK((place.first == 0 && place.last == longest / 32));
  CHECK_FALSE(Tiles::is_partial(tall, place, {0, place.last - 1}));
  CHECK(Tiles::done(tall, Tiles::next(tall, place, {0, place.last - 1})));
}

TEST_CASE("a bucket of T5 is a range of distances, on which its gradient relies") {
  for (const char* text : {"t5:32:128", "t5:8:20", "t5:4:3", "t5-causal:32:128", "t5-causal:2:9"}) {
    const Position position = Position::parse(text);
    std::set<int64_t> left;  // buckets that have ended
    for (int64_t distance = -300; distance <= 300; ++distance) {
      const int64_t bucket = position.t5_bucket(distance);
      INFO(text << " distance " << distance);
      REQUIRE(left.count(bucket) == 0);
      if (distance < 300 && position.t5_bucket(distance + 1) != bucket) left.insert(bucket);
    }
  }
}

TEST_CASE("flash/cuda/mma's backward: workspace to the byte") {
  const auto bytes = [](const char* text) {
    Workspace counting;
    FlashMmaBackwardScratch::take(Problem::parse(text), counting);
    return counting.bytes();
  };
  const size_t rows = 2 * 4 * (2 * 4 * 256);  // LSE and D, sequences filled up to 128s
  CHECK(bytes("b=2,hq=4,hk=2,nq=130,nk=70,d=64,dtype=bf16,pass=bwd") == rows);
  const size_t bias = 4 * 456 * 4 + 199 * 4, blocks = 2 * 4 * 3;  // of 64 queries at d = 128 with a bias
  CHECK(bytes("b=2,hq=4,hk=2,nq=130,nk=70,d=128,dtype=bf16,pass=bwd,pos=t5:32:128") ==
        rows + bias + blocks * 32 * 4);
}
