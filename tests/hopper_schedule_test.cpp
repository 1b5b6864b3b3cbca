// The order of work of the Hopper kernels, their walk over key tiles and the biases they fetch
// (variants/flash/flash_hopper_shape.cuh), against the plain tiles of the other fused kernels.

#include <random>
#include <set>

#include "harness/oracle/cases.h"
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

/// The visits of every row of tiles, against FlashTiles.
template <int kRows, int kKeys, bool kMasked>
void check_walk(const Problem& p) {
  using Tiles = FlashTiles<kRows, kKeys, kMasked>;
  const int64_t rows_of_head = (p.seq_q + kRows - 1) / kRows;
  const HopperSchedule schedule(rows_of_head, p.heads_q, p.heads_kv, p.batch, 1);
  std::vector<int> words;
  if (p.mask.has_blocks()) words = TileVisits::list(p, kRows, kKeys);
  const FlashVisitShape shape{FlashShape::of(p, p.mask_rule()),
                              {words.empty() ? nullptr : words.data(), TileVisits::stride_of(p, kKeys)}};
  // With a band alone, what it empties inside its range may be visited, and of blocks, those behind a length.
  const bool more_visits = !p.mask.has_blocks() || p.mask.has_padding();
  for (int64_t number = 0; number < flash_blocks(p, kRows); ++number) {
    auto walk = HopperWalk<kRows, kKeys, kMasked>::of(shape, schedule.at(static_cast<uint32_t>(number)));
    const auto place = Tiles::place_of(shape, number);
    INFO(p.text() << ", row of tiles " << number);
    REQUIRE((walk.place.b == place.b && walk.place.h == place.h && walk.place.head_kv == place.head_kv));
    REQUIRE((walk.place.i0 == place.i0 && walk.place.first == place.first && walk.place.last == place.last));
    int expected = Tiles::next(shape, place, place.first);
    for (int visit = walk.first(shape); walk.more(visit); visit = walk.next(shape, visit)) {
      walk.fetch(shape, visit);
      const int tile = walk.tile(visit);
      const bool partial = walk.band_cuts(tile) || walk.blocks_cut(visit);
      REQUIRE(tile <= expected);
      if (tile < expected) {
        REQUIRE((more_visits && partial));
        continue;
      }
      REQUIRE(partial == Tiles::is_partial(shape, place, int64_t{tile} * kKeys));
      expected = Tiles::next(shape, place, tile + 1);
    }
    REQUIRE(expected == place.last);
  }
}

struct PackedShape : FlashVisitShape {
  int pack_shift, splits;
};
/// Every query of every head in one row of a tile, beside its keys and values; and of every row of tiles the
/// visits, against single pairs, each in one split.
template <int kRows, int kKeys>
void check_packed(const Problem& p, int splits = 1) {
  using Walk = HopperWalk<kRows, kKeys, true, true>;
  const int pack = hopper_pack(p.group());
  const HopperSchedule schedule = HopperSchedule::of(p, kRows, pack, splits);
  const PackedShape shape{
      {FlashShape::of(p, p.mask_rule()), {}}, std::countr_zero(static_cast<unsigned>(pack)), splits};
  std::vector<bool> seen(static_cast<size_t>(p.batch * p.heads_q * p.seq_q));
  const HopperTiles tiles(128, {kRows / 64, kKeys}, pack);
  REQUIRE(int64_t{schedule.count()} == tiles.rows_of_tiles(p) * splits);
  const auto walk_of = [&](uint32_t index) { return Walk::of(shape, schedule.at<true>(index)); };
  int64_t visits = 0;
  for (uint32_t index = 0; index < schedule.count(); index += static_cast<uint32_t>(splits)) {
    const auto place = walk_of(index).place;
    const MaskRule rule = of_batch_entry(p.mask_rule(), place.b);
    std::vector<KeyRange> ranges;
    INFO(p.text() << ", row of tiles " << index);
    for (int row = 0; row < kRows; ++row) {
      const int64_t i = int64_t{place.i0} + Walk::Tiles::query_of(shape, row),
                    h = place.h + Walk::Tiles::head_of(shape, row);
      if (i >= p.seq_q) continue;
      REQUIRE((h < p.heads_q && h / p.group() == place.head_kv));
      const auto number = static_cast<size_t>((place.b * p.heads_q + h) * p.seq_q + i);
      REQUIRE_FALSE(seen[number]);
      seen[number] = true;
      ranges.push_back(rule.row_range(0, i));
    }
    std::vector<bool> visited(static_cast<size_t>((p.seq_kv + kKeys - 1) / kKeys));
    for (int split = 0; split < splits; ++split) {
      auto walk = walk_of(index + static_cast<uint32_t>(split));
      REQUIRE((walk.place.split == split && walk.place.b == place.b));
      REQUIRE((walk.place.h == place.h && walk.place.i0 == place.i0));
      for (int visit = walk.first(shape); walk.more(visit); visit = walk.next(shape, visit)) {
        walk.fetch(shape, visit);
        REQUIRE_FALSE(walk.blocks_cut(visit));
        const auto tile = static_cast<size_t>(walk.tile(visit));
        REQUIRE_FALSE(visited.at(tile));
        visited[tile] = true;
        ++visits;
      }
    }
    for (int tile = 0; tile < static_cast<int>(visited.size()); ++tile) {
      const int64_t j0 = int64_t{tile} * kKeys;
      int64_t visible = 0;
      for (const KeyRange& range : ranges) {
        visible += std::max(std::min(range.end, j0 + kKeys) - std::max(range.begin, j0), int64_t{0});
      }
      if (visible > 0) REQUIRE(visited[static_cast<size_t>(tile)]);
      const bool full = visible == static_cast<int64_t>(ranges.size()) * kKeys;
      if (visited[static_cast<size_t>(tile)]) REQUIRE(walk_of(index).band_cuts(tile) == !full);
    }
  }
  REQUIRE(visits == tiles.visits(p));
  REQUIRE(std::count(seen.begin(), seen.end(), true) == static_cast<int64_t>(seen.size()));
}

}  // namespace

TEST_CASE("hopper: divisors divide") {
  Random random(3);
  const auto check = [](uint32_t numerator, uint32_t by) {
    const Divisor divisor(by);
    const uint32_t quotient = divisor.quotient(numerator);
    INFO(numerator << " / " << by);
    REQUIRE(quotient == numerator / by);
    REQUIRE(divisor.remainder(numerator, quotient) == numerator % by);
  };
  constexpr uint32_t kMost = INT32_MAX;
  for (uint32_t by = 1; by < 3000; ++by) {
    const uint32_t largest = kMost / by * by;
    for (const uint32_t numerator : {uint32_t{0}, by - 1, by, by + 1, largest - 1, largest, kMost})
      check(numerator, by);
  }
  for (int bits = 1; bits < 31; ++bits) {
    for (const uint32_t by : {(1u << bits) - 1, 1u << bits, (1u << bits) + 1}) {
      for (int k = 0; k < 200; ++k) check(static_cast<uint32_t>(draw(random, 0, kMost)), by);
      check(kMost, by);
      check(kMost / by * by - 1, by);
    }
  }
  for (int k = 0; k < 100000; ++k)
    check(static_cast<uint32_t>(draw(random, 0, kMost)), static_cast<uint32_t>(draw(random, 1, kMost)));
}

TEST_CASE("hopper: every row of tiles once, the longest of a section first") {
  Random random(5);
  for (int k = 0; k < 300; ++k) {
    const int64_t rows = draw(random, 1, 40), group = draw(random, 1, 4), heads_kv = draw(random, 1, 5),
                  heads_q = group * heads_kv, batch = draw(random, 1, 4), heads = batch * heads_q,
                  section = draw(random, 1, heads);
    const HopperSchedule schedule(rows, heads_q, heads_kv, batch, section);
    REQUIRE(int64_t{schedule.count()} == rows * heads);
    std::vector<bool> seen(schedule.count());
    int64_t before = 0;
    for (uint32_t index = 0; index < schedule.count(); ++index) {
      const HopperSchedule::Row row = schedule.at(index);
      REQUIRE((row.b < batch && row.h < heads_q && row.head_kv == row.h / group && row.number < rows));
      const int64_t head = row.b * heads_q + row.h, from_the_last = rows - 1 - row.number;
      const auto place = static_cast<size_t>(head * rows + row.number);
      REQUIRE_FALSE(seen[place]);
      seen[place] = true;
      REQUIRE(head / section == index / (section * rows));
      if (section > 1 && index % (section * rows) != 0) REQUIRE(from_the_last >= before);
      before = from_the_last;
    }
  }
}

TEST_CASE("hopper: the order of a million queries does not overflow") {
  const std::string shape = "b=2,hq=64,hk=8,nq=1048576,nk=1048576,d=128,dtype=bf16,mask=";
  for (const char* mask : {"none", "causal", "window:1024:0"}) {
    const HopperSchedule schedule = HopperSchedule::of(Problem::parse(shape + mask), 128);
    const int64_t rows = 1048576 / 128, heads = 2 * 64, section = schedule.section(), count = rows * heads;
    INFO(mask);
    REQUIRE(int64_t{schedule.count()} == count);
    for (int64_t index = 0; index < count; index += index < count - 4099 ? 4099 : 1) {
      const int64_t first = index / (section * rows) * section, within = index - first * rows;
      const int64_t members = std::min(section, heads - first), head = first + within % members;
      const HopperSchedule::Row row = schedule.at(static_cast<uint32_t>(index));
      REQUIRE((row.b == head / 64 && row.h == head % 64 && row.head_kv == row.h / 8));
      REQUIRE(int64_t{row.number} == rows - 1 - within / members);
    }
  }
}

TEST_CASE("hopper: keys and values of a section fit the second-level cache") {
  const Problem causal = Problem::parse("b=2,hq=16,hk=4,nq=8192,nk=8192,d=128,dtype=bf16,mask=causal");
  const HopperSchedule schedule = HopperSchedule::of(causal, 128);
  CHECK(schedule.count() == 2 * 16 * 64);
  CHECK(schedule.section() == 32);  // 4 MiB a key/value head, four query heads each
  const auto section = [](const char* text) {
    return HopperSchedule::of(Problem::parse(std::string(text) + ",dtype=bf16"), 128).section();
  };
  CHECK(HopperSchedule::of(causal, 128, 4).section() == 8);  // the same heads, in packs of four
  CHECK(section("b=2,hq=16,nq=8192,d=128") == 1);
  CHECK(section("hq=4,nq=1048576,d=256,mask=causal") == 1);
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
  for (const char* mask :
       {"document:130/1/40", "causal+document:300/70", "padding:90%+window:40:3+document:99"}) {
    for (int k = 0; k < 12; ++k) {
      const std::string n = std::to_string(draw(random, 91, 700));
      const Problem p = Problem::parse("b=2,hq=2,nq=" + n + ",d=8,mask=" + mask);
      check_walk<128, 128, true>(p);
      check_walk<192, 128, true>(p);
      check_walk<128, 80, true>(p);
    }
  }
  for (const char* mask : {"", "causal+", "window:70:3+", "padding:50%/90+", "causal:topleft+padding:80+"}) {
    for (int k = 0; k < 12; ++k) {
      const int64_t nq = draw(random, 1, 500), nk = draw(random, 91, 500);
      const BlockFile file(random_blocks(random, nq, nk, draw(random, 1, 150), draw(random, 1, 150)));
      const Problem p = Problem::parse("b=2,hq=2,nq=" + std::to_string(nq) + ",nk=" + std::to_string(nk) +
                                       ",d=8,mask=" + mask + "blocks:" + file.path);
      check_walk<128, 128, true>(p);
      check_walk<192, 128, true>(p);
      check_walk<128, 80, true>(p);
      check_walk<64, 128, true>(p);
    }
  }
}

TEST_CASE("hopper: packed rows of tiles have every query of every head once, and visit what it sees") {
  Random random(29);
  for (const int group : {1, 2, 3, 4, 6, 8, 12, 16, 32, 48}) {
    CHECK(hopper_pack(group) == (group % 16 == 0  ? 16
                                 : group % 8 == 0 ? 8
                                 : group % 4 == 0 ? 4
                                                  : 2 - group % 2));
    for (const char* mask : kMasks) {
      for (int k = 0; k < 3; ++k) {
        const std::string nq = std::to_string(draw(random, 1, 150)),
                          nk = std::to_string(draw(random, 91, 400));
        const Problem p = Problem::parse("b=2,hq=" + std::to_string(2 * group) + ",hk=2,nq=" + nq +
                                         ",nk=" + nk + ",d=8,mask=" + mask);
        check_packed<128, 128>(p, 1 + k);
        check_packed<128, 80>(p, 5 - 2 * k);
      }
    }
  }
}

TEST_CASE("hopper: the biases of every tile are there, aligned to 16 bytes") {
  for (const char* text : {"hq=2,nq=1,nk=1,d=64", "hq=2,nq=300,nk=391,d=64", "hq=2,nq=129,nk=80,d=256",
                           "hq=2,nq=7,nk=1002,d=128", "hq=2,nq=1000,nk=3,d=128"}) {
    const Problem p = Problem::parse(std::string(text) + ",dtype=bf16,pos=alibi");
    const HopperTiles tiling = hopper_tiles_of(p);
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
  for (const char* text :
       {"b=2,hq=4,hk=2,nq=300,nk=391,d=64", "hq=2,nq=500,nk=260,d=104,dv=88,mask=causal",
        "hq=2,nq=900,d=200,mask=window:100:0", "hq=2,nq=300,nk=500,d=160,dv=128",
        "hq=2,nq=300,nk=500,d=192,dv=128,softcap=3", "hq=2,nq=300,nk=700,d=64,mask=padding:0"}) {
    const Problem p = Problem::parse(std::string(text) + ",dtype=bf16");
    const HopperTiles tiling = hopper_tiles_of(p);
    int64_t tiles = 0;
    each_visited_tile(p, tiling.rows(), tiling.keys, [&](int64_t, int64_t) { ++tiles; });
    const auto pairs = static_cast<double>(tiles * p.heads_q * tiling.rows() * tiling.keys);
    INFO(p.text());
    CHECK(hopper_cost(p, tiling).exps == pairs);
    CHECK(hopper_cost(p, tiling).flops_executed ==
          2.0 * (tiling.width + hopper_value_width(tiling.width)) * pairs);
    const bool wide_keys = p.head_dim == 160;
    CHECK(tiling.width == (wide_keys ? 192 : flash_mma_width(p)));
    CHECK(pairs >= static_cast<double>(visible_pairs(p) * p.heads_q));
  }
}

TEST_CASE("hopper: Shaw keys cost their terms, in work and in memory") {
  const std::string shape = "b=2,hq=4,hk=2,nq=300,nk=391,d=104,dv=88,mask=causal,dtype=bf16";
  const Problem none = Problem::parse(shape), keys = Problem::parse(shape + ",pos=shaw-keys:5");
  const double queries = 2 * 4 * 300, terms = queries * 11;
  const Cost without = hopper_cost(none, hopper_tiles_of(keys)),
             with = hopper_cost(keys, hopper_tiles_of(keys));
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
    return hopper_best_tiles(Problem::parse(std::string(text) + ",dtype=bf16"), 132).consumers;
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

TEST_CASE("hopper: heads are packed where it saves rounds") {
  const auto pack = [](const std::string& text) {
    return hopper_best_tiles(Problem::parse(text + ",dtype=bf16"), 132).pack;
  };
  const std::string grouped = "b=8,hq=32,hk=4,d=128,nk=16384,";
  CHECK(pack(grouped + "nq=32") == 8);  // 64 rows of tiles, one round; of one head 256, two rounds of 0.83
  CHECK(pack(grouped + "nq=64,mask=causal") == 8);
  CHECK(pack(grouped + "nq=129") == 8);   // 288 in three rounds; 512 in four
  CHECK(pack(grouped + "nq=1024") == 1);  // as many rows of tiles
  CHECK(pack(grouped + "nq=1025,mask=window:100:0") == 1);
  // Packs span 32 queries instead of 128: 39 visits in 32 rows of tiles, 15 in 8.
  CHECK(pack("b=8,hq=16,hk=4,d=128,nq=1024,mask=window:30:0") == 4);
  CHECK(pack("b=8,hq=16,hk=4,d=128,nq=1024,mask=causal") == 1);
  CHECK(pack(grouped + "nq=32,pos=alibi") == 1);
  CHECK(pack(grouped + "nq=32,softcap=9") == 1);
  CHECK(pack(grouped + "nq=32,pos=shaw-keys:9") == 1);
  CHECK(pack("b=8,hq=32,hk=4,d=128,nq=32,nk=0") == 1);
  CHECK(pack("b=8,hq=32,hk=32,d=128,nq=32,nk=16384") == 1);
  CHECK(pack("b=1,hq=64,hk=8,d=128,nq=200") == 1);          // 104 or 128 rows of tiles, one round
  CHECK(pack("b=16,hq=24,hk=4,d=128,nq=33,nk=4096") == 2);  // 192 in two rounds; 384 in three of 0.83
  CHECK(pack("b=16,hq=24,hk=8,d=128,nq=33,nk=4096") == 1);  // groups of 3
  CHECK(pack("b=8,hq=32,hk=4,d=256,nq=64,nk=4096") == 8);   // 128 in one round; 256 in two
  CHECK(pack("b=8,hq=64,hk=8,d=64,nq=64,nk=8192") == 8);    // 256 in two rounds; 512 in four
  CHECK(pack("b=8,hq=64,hk=8,d=64,nq=100,nk=8192") == 1);   // 448 in four rounds, 512 in four
  Random random(1);
  const BlockFile file(random_blocks(random, 32, 256, 16, 16));
  CHECK(pack("b=8,hq=32,hk=4,d=128,nq=32,nk=256") == 8);
  CHECK(pack("b=8,hq=32,hk=4,d=128,nq=32,nk=256,mask=blocks:" + file.path) == 1);
}

TEST_CASE("hopper: keys are split where rows of tiles leave multiprocessors idle") {
  const auto splits = [](const std::string& text) {
    return hopper_best_tiles(Problem::parse(text + ",dtype=bf16"), 132).splits;
  };
  CHECK(splits("b=1,hq=32,hk=4,d=128,nq=32,nk=16384") == 16);  // 8 rows of tiles; 128 tiles become 8
  CHECK(splits("b=8,hq=32,hk=4,d=128,nq=32,nk=16384") == 2);   // 64 rows
  CHECK(splits("b=1,hq=8,hk=8,d=64,nq=100,nk=8192") == 16);    // without a group
  CHECK(splits("b=8,hq=32,hk=32,d=128,nq=32,nk=16384") == 1);  // 256 rows fill two rounds
  CHECK(splits("b=1,hq=16,d=128,nq=512,mask=causal") == 1);    // few tiles: merging costs more
  CHECK(splits("b=1,hq=64,hk=8,d=128,nq=200") == 1);
  CHECK(splits("b=1,hq=8,hk=1,d=128,nq=32,nk=300") == 1);
  CHECK(splits("b=1,hq=8,hk=1,d=128,nq=32,nk=0") == 1);
  CHECK(splits("b=1,hq=8,hk=1,d=128,nq=32,nk=90000,pos=alibi") == 1);
}

TEST_CASE("hopper: the default problems of the check have heads to pack and keys to split") {
  BlockFiles files;
  std::set<std::pair<Dtype, int>> packed;
  std::set<Dtype> split;
  for (const Case& checked : check_cases(SuiteSize::quick, files)) {
    const Problem& p = checked.problem;
    const bool short_of_bits = p.dtype == Dtype::bf16 || p.dtype == Dtype::f16;
    if (!short_of_bits || p.pass == Pass::bwd || p.position.kind != PositionKind::none) continue;
    const HopperTiles tiles = hopper_best_tiles(p, 132);
    if (tiles.splits > 1) split.insert(p.dtype);
    if (tiles.pack > 1) packed.insert({p.dtype, flash_mma_width(p)});
  }
  CHECK(split == std::set<Dtype>{Dtype::bf16, Dtype::f16});
  CHECK(packed ==
        std::set<std::pair<Dtype, int>>{
            {Dtype::bf16, 64}, {Dtype::bf16, 128}, {Dtype::bf16, 256}, {Dtype::f16, 64}, {Dtype::f16, 128}});
}

TEST_CASE("hopper: packed tiles cost less work and fewer keys read") {
  const Problem p = Problem::parse("b=8,hq=32,hk=4,nq=32,nk=16384,d=128,dtype=bf16");
  const Cost cost = hopper_cost(p, hopper_best_tiles(p, 132));
  const double queries = 8 * 32 * 32, tiles = 8 * 4 * 2 * 128;
  CHECK(cost.exps == tiles * 128 * 128);
  CHECK(cost.flops_executed == 4 * 128 * cost.exps);
  const double splits = 2 * 4 * 2 * queries * (128 + 2);  // two, written and read
  CHECK(cost.bytes_moved == 2 * 256 * (queries + tiles * 128) + 4 * queries + splits);
}

TEST_CASE("hopper: shared memory of every instance fits a block") {
  CHECK(HopperShared<192, 128, 64, false>::kBytes + 1024 <= 232448);
  CHECK(HopperShared<128, 128, 128, true>::kBytes + 1024 <= 232448);
  CHECK(HopperShared<128, 80, 256, true>::kBytes + 1024 <= 232448);
}
