// The order of work of the Hopper kernels, their walk over key tiles and the biases they fetch
// (variants/flash/flash_hopper_shape.cuh), against the plain tiles of the other fused kernels.

#include <random>

#include "tests/block_file.h"
#include "tests/catch.h"
#include "variants/flash/flash_hopper_args.cuh"

using namespace attn;

namespace {

using Random = std::mt19937;
int64_t draw(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

const char* const kMasks[] = {"none",       "causal",     "causal:topleft",         "window:9:4",
                              "window:0:*", "padding:37", "window:70:3+padding:90", "causal+window:40:*"};

/// next() and is_partial() of every row of tiles, against FlashTiles.
template <int kRows, int kKeys, bool kMasked>
void check_walk(const Problem& p) {
  using Tiles = FlashTiles<kRows, kKeys, kMasked>;
  const FlashShape shape = FlashShape::of(p, p.mask_rule());
  for (int64_t number = 0; number < flash_blocks(p, kRows); ++number) {
    const auto walk = HopperWalk<kRows, kKeys, kMasked>::of(shape, static_cast<uint32_t>(number));
    const auto place = Tiles::place_of(shape, number);
    INFO(p.text() << ", row of tiles " << number);
    REQUIRE((walk.place.i0 == place.i0 && walk.place.first == place.first && walk.place.last == place.last));
    int expected = Tiles::next(shape, place, place.first);
    for (int tile = walk.first(shape); tile < place.last; tile = walk.next(shape, tile + 1)) {
      REQUIRE(tile <= expected);  // with a band alone, what it empties inside its range may be visited
      if (tile < expected) {
        REQUIRE((!p.mask.has_blocks() && walk.is_partial(shape, tile)));
        continue;
      }
      REQUIRE(walk.is_partial(shape, tile) == Tiles::is_partial(shape, place, int64_t{tile} * kKeys));
      expected = Tiles::next(shape, place, tile + 1);
    }
    REQUIRE(expected == place.last);
  }
}

}  // namespace

TEST_CASE("hopper: every row of tiles once, the longest of a section first") {
  Random random(5);
  for (int k = 0; k < 300; ++k) {
    HopperSchedule schedule{};
    schedule.rows_of_head = static_cast<uint32_t>(draw(random, 1, 40));
    schedule.heads = static_cast<uint32_t>(draw(random, 1, 50));
    schedule.section = static_cast<uint32_t>(draw(random, 1, schedule.heads));
    std::vector<bool> seen(schedule.count());
    uint32_t before = 0;
    for (uint32_t index = 0; index < schedule.count(); ++index) {
      const uint32_t place = schedule.place(index);
      REQUIRE(place < schedule.count());
      REQUIRE_FALSE(seen[place]);
      seen[place] = true;
      const uint32_t row = place % schedule.rows_of_head, head = place / schedule.rows_of_head;
      const uint32_t section = index / (schedule.section * schedule.rows_of_head);
      REQUIRE(head / schedule.section == section);
      const bool first = index % (schedule.section * schedule.rows_of_head) == 0;
      if (schedule.section > 1 && !first) REQUIRE(row >= before);  // row 0 has the last queries
      before = row;
    }
  }
}

TEST_CASE("hopper: the order of a million queries does not overflow") {
  const std::string shape = "b=2,hq=64,hk=8,nq=1048576,nk=1048576,d=128,dtype=bf16,mask=";
  for (const char* mask : {"none", "causal", "window:1024:0"}) {
    const HopperSchedule schedule = HopperSchedule::of(Problem::parse(shape + mask), 128);
    const int64_t rows = 1048576 / 128, heads = 2 * 64, section = schedule.section, count = rows * heads;
    INFO(mask);
    REQUIRE(int64_t{schedule.count()} == count);
    for (int64_t index = 0; index < count; index += index < count - 4099 ? 4099 : 1) {
      const int64_t first = index / (section * rows) * section, within = index - first * rows;
      const int64_t members = std::min(section, heads - first);
      const int64_t head = first + (section == 1 ? 0 : within % members);
      const int64_t row = section == 1 ? within : within / members;
      REQUIRE(int64_t{schedule.place(static_cast<uint32_t>(index))} == head * rows + row);
    }
  }
}

TEST_CASE("hopper: keys and values of a section fit the second-level cache") {
  const Problem causal = Problem::parse("b=2,hq=16,hk=4,nq=8192,nk=8192,d=128,dtype=bf16,mask=causal");
  const HopperSchedule schedule = HopperSchedule::of(causal, 128);
  CHECK(schedule.count() == 2 * 16 * 64);
  CHECK(schedule.section == 32);  // 4 MiB a key/value head, four query heads each
  CHECK(HopperSchedule::of(Problem::parse("b=2,hq=16,nq=8192,d=128,dtype=bf16"), 128).section == 1);
  CHECK(HopperSchedule::of(Problem::parse("hq=4,nq=1048576,d=256,dtype=bf16,mask=causal"), 128).section == 1);
}

TEST_CASE("hopper: the walk over tiles is that of the other kernels") {
  Random random(11);
  for (const char* mask : kMasks) {
    for (int k = 0; k < 12; ++k) {
      const std::string nq = std::to_string(draw(random, 1, 400)), nk = std::to_string(draw(random, 91, 400));
      const Problem p = Problem::parse("b=2,hq=2,nq=" + nq + ",nk=" + nk + ",d=8,mask=" + mask);
      check_walk<128, 128, true>(p);
      check_walk<192, 128, true>(p);
      check_walk<128, 80, true>(p);
      check_walk<64, 128, true>(p);
      if (p.mask.none()) check_walk<128, 176, false>(p);
    }
  }
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  const std::string blocks = "nq=96,nk=160,d=8,mask=blocks:" + file.path;
  check_walk<64, 80, true>(Problem::parse(blocks));
  check_walk<128, 128, true>(Problem::parse(blocks + "+causal"));
}

TEST_CASE("hopper: the biases of every tile are there, aligned to 16 bytes") {
  for (const char* text : {"hq=2,nq=1,nk=1,d=64", "hq=2,nq=300,nk=391,d=64", "hq=2,nq=129,nk=80,d=256",
                           "hq=2,nq=7,nk=1002,d=128", "hq=2,nq=1000,nk=3,d=128"}) {
    const Problem p = Problem::parse(std::string(text) + ",dtype=bf16,pos=alibi");
    const HopperTiling tiling = hopper_tiling_of(p);
    Workspace counting;
    HopperScratch::take(p, counting);
    const HopperBiasEnds ends = HopperBiasEnds::of(p, tiling);
    const int64_t width = (ends.front + p.seq_q + p.seq_kv - 1 + ends.back + 3) / 4 * 4;
    INFO(p.text());
    CHECK(counting.bookings().front().bytes == static_cast<size_t>(p.heads_q * width) * sizeof(float));
    for (int64_t i0 = 0; i0 < p.seq_q; i0 += tiling.rows()) {
      for (int64_t j0 = 0; j0 < p.seq_kv; j0 += tiling.keys) {
        const int64_t first = ends.front + p.seq_kv - 1 + i0 - j0 - (tiling.keys - 1);
        CHECK((first >= 0 && first % 4 == 0 && first + tiling.rows() + tiling.keys <= width));
      }
    }
    CHECK((tiling.rows() + tiling.keys) % 4 == 0);
  }
}

TEST_CASE("hopper: cost counts the tiles that are visited") {
  for (const char* text : {"b=2,hq=4,hk=2,nq=300,nk=391,d=64", "hq=2,nq=500,nk=260,d=104,dv=88,mask=causal",
                           "hq=2,nq=900,d=200,mask=window:100:0", "hq=2,nq=300,nk=700,d=64,mask=padding:0"}) {
    const Problem p = Problem::parse(std::string(text) + ",dtype=bf16");
    const HopperTiling tiling = hopper_tiling_of(p);
    int64_t tiles = 0;
    each_visited_tile(p, tiling.rows(), tiling.keys, [&](int64_t, int64_t) { ++tiles; });
    const auto pairs = static_cast<double>(tiles * p.heads_q * tiling.rows() * tiling.keys);
    INFO(p.text());
    CHECK(hopper_cost(p, tiling).exps == pairs);
    CHECK(hopper_cost(p, tiling).flops_executed == 4.0 * flash_mma_width(p) * pairs);
    CHECK(pairs >= static_cast<double>(visible_pairs(p) * p.heads_q));
  }
}

TEST_CASE("hopper: Shaw keys cost their terms, in work and in memory") {
  const std::string shape = "b=2,hq=4,hk=2,nq=300,nk=391,d=104,dv=88,mask=causal,dtype=bf16";
  const Problem none = Problem::parse(shape), keys = Problem::parse(shape + ",pos=shaw-keys:5");
  const double queries = 2 * 4 * 300, terms = queries * 11;
  const Cost without = hopper_cost(none, hopper_tiling_of(keys)),
             with = hopper_cost(keys, hopper_tiling_of(keys));
  CHECK(with.flops_executed - without.flops_executed == 3 * 2 * 128 * terms);
  CHECK(with.bytes_moved - without.bytes_moved == 2 * 104 * queries + 2 * 4 * terms);
  CHECK(with.exps == without.exps);
  const auto booked = [](const Problem& p) {
    Workspace counting;
    HopperScratch::take(p, counting);
    size_t bytes = 0;
    for (const auto& booking : counting.bookings()) bytes += booking.bytes;
    return bytes;
  };
  CHECK(booked(keys) - booked(none) == sizeof(float) * static_cast<size_t>(terms));
}

TEST_CASE("hopper: tiles by size") {
  const auto consumers = [](const char* text) {
    return hopper_best_tiling(Problem::parse(std::string(text) + ",dtype=bf16"), 132).consumers;
  };
  CHECK(consumers("b=1,hq=16,nq=512,d=128") == 1);  // 64 rows of 128 queries would leave half the GPU idle
  CHECK(consumers("b=1,hq=16,nq=1024,d=128") == 2);
  CHECK(consumers("b=2,hq=16,nq=8192,d=128,mask=causal") == 2);
  CHECK(consumers("b=1,hq=32,nq=1024,d=64") == 2);
  CHECK(consumers("b=16,hq=32,nq=1024,d=64") == 3);
  CHECK(consumers("b=16,hq=32,nq=1024,d=64,mask=causal") == 2);  // 192 x 128 tiles waste half of the work
  CHECK(consumers("b=8,hq=32,nq=2048,d=64,mask=causal") == 3);
  CHECK(consumers("b=2,hq=8,nq=8192,d=256") == 2);
}

TEST_CASE("hopper: shared memory of every instance fits a block") {
  CHECK(HopperShared<192, 128, 64, false>::kBytes + 1024 <= 232448);
  CHECK(HopperShared<128, 128, 128, true>::kBytes + 1024 <= 232448);
  CHECK(HopperShared<128, 80, 256, true>::kBytes + 1024 <= 232448);
}
