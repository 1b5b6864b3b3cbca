// Which tiles the thread blocks of the fused CUDA kernels work on (variants/flash/flash_tiles.cuh,
// flash_visits.cuh), for every tile shape in use, and what they see of a tile
// (variants/common/mask_bits.cuh), against the mask element by element.

#include <random>
#include <set>

#include "tests/block_file.h"
#include "tests/catch.h"
#include "variants/flash/flash_visits.cuh"

using namespace attn;

namespace {

/// Of flash/cuda/simt (64 x 64, 64 x 32) and of flash/cuda/mma and tf32x3.
#define ATTN_TILE_SHAPES                                                              \
  (FlashTiles<64, 64, true>), (FlashTiles<64, 32, true>), (FlashTiles<64, 16, true>), \
      (FlashTiles<128, 64, true>), (FlashTiles<128, 32, true>)

template <class Tiles>
struct ShapeOf;
template <int kRows, int kKeys, bool kMasked>
struct ShapeOf<FlashTiles<kRows, kKeys, kMasked>> {
  static constexpr int64_t rows = kRows, keys = kKeys;
};

using Random = std::mt19937;
int64_t draw(Random& random, int64_t low, int64_t high) {
  return std::uniform_int_distribution<int64_t>(low, high)(random);
}

/// An intersection of masks for one batch entry.
std::string draw_mask(Random& random, int64_t nq, int64_t nk) {
  std::string mask;
  const auto add = [&](const std::string& part) {
    if (!mask.empty()) mask += '+';
    mask += part;
  };
  switch (draw(random, 0, 3)) {
    case 0:
      add("causal");
      break;
    case 1:
      add("causal:topleft");
      break;
  }
  const auto side = [&] {
    return draw(random, 0, 3) == 0 ? std::string(1, '*') : std::to_string(draw(random, 0, 150));
  };
  if (draw(random, 0, 1) == 0) add("window:" + side() + ":" + side());
  if (nq == nk && draw(random, 0, 1) == 0) {
    const auto length = [&] { return std::to_string(draw(random, 1, draw(random, 1, 200))); };
    add("document:" + length() + "/" + length() + "/" + length());
  }
  if (mask.empty() || draw(random, 0, 1) == 0) add("padding:" + std::to_string(draw(random, 0, nk)));
  return mask;
}

/// Everything that one thread block does with tiles, against rule.allows.
template <class Tiles>
void check_block(const Problem& p, int64_t index) {
  const FlashShape shape = FlashShape::of(p, p.mask_rule());
  const typename Tiles::Place place = Tiles::place_of(shape, index);
  const MaskRule rule = p.mask_rule();
  const int64_t keys = ShapeOf<Tiles>::keys, end = Tiles::end_of(shape, place);
  // a block mask may cut what a band leaves of a tile; a band may be empty (causal:topleft+window:0:0)
  const bool exact = !p.mask.has_blocks() && rule.band_low <= rule.band_high;
  std::set<int64_t> visited;
  for (int tile = Tiles::next(shape, place, place.first); tile < place.last;
       tile = Tiles::next(shape, place, tile + 1)) {
    REQUIRE(visited.insert(tile).second);
  }
  for (int64_t tile = 0; tile * keys < p.seq_kv; ++tile) {
    int64_t seen = 0;
    for (int64_t i = place.i0; i < end; ++i) {
      for (int64_t j = tile * keys; j < std::min((tile + 1) * keys, p.seq_kv); ++j) {
        seen += rule.allows(place.b, i, j);
      }
    }
    INFO("rows from " << place.i0 << ", tile " << tile);
    if (seen > 0) REQUIRE(visited.count(tile) == 1);
    if (seen == 0 && exact) REQUIRE(visited.count(tile) == 0);
    if (visited.count(tile) == 1 && !Tiles::is_partial(shape, place, tile * keys)) {
      REQUIRE(seen == (end - place.i0) * keys);
    }
    visited.erase(tile);
  }
  REQUIRE(visited.empty());
}

}  // namespace

TEMPLATE_TEST_CASE("visited tiles and partial tiles against the elements of random masks", "",
                   ATTN_TILE_SHAPES) {
  Random random(7);
  for (int k = 0; k < 200; ++k) {
    const int64_t nq = draw(random, 1, 300), nk = draw(random, 0, 1) == 0 ? nq : draw(random, 1, 300);
    std::string mask = draw_mask(random, nq, nk);
    const BlockFile file(random_blocks(random, nq, nk, draw(random, 1, 90), draw(random, 1, 90)));
    if (k % 3 == 0) mask = "blocks:" + file.path;
    if (k % 3 == 1) mask += "+blocks:" + file.path;
    const Problem p = Problem::parse("b=1,hq=1,nq=" + std::to_string(nq) + ",nk=" + std::to_string(nk) +
                                     ",d=8,mask=" + mask);
    INFO(p.text());
    int64_t visited = 0;
    each_visited_tile(p, ShapeOf<TestType>::rows, ShapeOf<TestType>::keys,
                      [&](int64_t, int64_t) { ++visited; });
    CHECK(visited == count_visited_tiles(p, ShapeOf<TestType>::rows, ShapeOf<TestType>::keys));
    for (int64_t index = 0; index < flash_blocks(p, ShapeOf<TestType>::rows); ++index) {
      check_block<TestType>(p, index);
    }
  }
}

TEMPLATE_TEST_CASE("blocks of queries: every one once, at any length", "", ATTN_TILE_SHAPES) {
  constexpr int64_t kRows = ShapeOf<TestType>::rows;
  for (const int64_t seq : {int64_t{1}, kRows - 1, kRows, kRows + 1, int64_t{1} << 20}) {
    Problem p;
    p.batch = 2;
    p.heads_q = 48;
    p.heads_kv = 6;
    p.seq_q = p.seq_kv = seq;
    const FlashShape shape = FlashShape::of(p, p.mask_rule());
    const int64_t count = flash_blocks(p, kRows), tiles = (seq + kRows - 1) / kRows;
    std::vector<bool> seen(static_cast<size_t>(count));
    bool right = true;
    for (int64_t index = 0; index < count && right; ++index) {
      const typename TestType::Place place = TestType::place_of(shape, index);
      right = place.b >= 0 && place.b < p.batch && place.h >= 0 && place.h < p.heads_q &&
              place.i0 % kRows == 0 && place.i0 < seq && place.head_kv == place.h / 8 &&
              TestType::end_of(shape, place) == std::min<int64_t>(place.i0 + kRows, seq);
      const auto at = static_cast<size_t>((place.b * p.heads_q + place.h) * tiles + place.i0 / kRows);
      right = right && !seen[at];
      if (right) seen[at] = true;
      INFO("seq " << seq << " block " << index);
      if (!right) CHECK(right);
    }
  }
}

TEMPLATE_TEST_CASE("blocks of queries: grids up to 2^31 - 1 blocks", "", ATTN_TILE_SHAPES) {
  constexpr int64_t kRows = ShapeOf<TestType>::rows;
  Problem p;
  p.heads_q = p.heads_kv = 128;
  p.seq_q = p.seq_kv = int64_t{1} << 20;
  const int64_t tiles = p.seq_q / kRows;
  p.batch = INT32_MAX / (tiles * p.heads_q);
  const FlashShape shape = FlashShape::of(p, p.mask_rule());
  const int64_t count = flash_blocks(p, kRows);
  REQUIRE((count <= INT32_MAX && count > INT32_MAX - tiles * p.heads_q));
  Random random(3);
  for (int k = 0; k < 1000; ++k) {
    const int64_t index = k == 0 ? 0 : k == 1 ? count - 1 : draw(random, 0, count - 1);
    const typename TestType::Place place = TestType::place_of(shape, index);
    const int64_t head = int64_t{place.b} * p.heads_q + place.h;
    CHECK(head * tiles + (tiles - 1 - place.i0 / kRows) == index);
    CHECK((place.b < p.batch && place.last == p.seq_kv / ShapeOf<TestType>::keys));
  }
}

TEST_CASE("blocks of queries: the longest sequences") {
  using Tiles = FlashTiles<128, 64, true>;
  const int64_t longest = int64_t{1} << 31, head = longest / 128;
  const Problem many_queries = Problem::parse("b=1,hq=2,nq=2147483648,nk=65536,d=1,mask=causal:topleft");
  const FlashShape shape = FlashShape::of(many_queries, many_queries.mask_rule());
  const Tiles::Place last = Tiles::place_of(shape, head), first = Tiles::place_of(shape, 2 * head - 1);
  CHECK((last.h == 1 && last.i0 == longest - 128 && last.first == 0 && last.last == 1024));
  CHECK(Tiles::end_of(shape, last) == longest);
  CHECK_FALSE(Tiles::is_partial(shape, last, 65536 - 64));
  CHECK((first.h == 1 && first.i0 == 0 && first.last == 2));
  CHECK(Tiles::is_partial(shape, first, 0));

  const Problem many_keys = Problem::parse("b=1,hq=1,nq=65536,nk=2147483648,d=1,mask=causal");
  const FlashShape wide = FlashShape::of(many_keys, many_keys.mask_rule());
  const Tiles::Place place = Tiles::place_of(wide, 0);
  CHECK((place.i0 == 65536 - 128 && place.first == 0 && place.last == longest / 64));
  CHECK(Tiles::next(wide, place, place.last - 1) == place.last - 1);
  CHECK(Tiles::is_partial(wide, place, longest - 64));
  CHECK_FALSE(Tiles::is_partial(wide, place, longest - 256));
}

TEST_CASE("the tiles that cost() counts are the tiles that are visited") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  const std::string mask = GENERATE("none", "causal", "window:9:4", "padding:50%/140", "causal+window:70:*",
                                    "blocks", "document:90/5,nq=150", "causal+document:70/3,nq=150");
  const bool square = mask.find(",nq=") != std::string::npos;
  const Problem p = Problem::parse("b=2,hq=1,nk=150,d=8" + std::string(square ? "" : ",nq=90") +
                                   ",mask=" + (mask == "blocks" ? "blocks:" + file.path : mask));
  using Tiles = FlashTiles<64, 64, true>;
  const FlashShape shape = FlashShape::of(p, p.mask_rule());
  int64_t visited = 0;
  for (int64_t index = 0; index < flash_blocks(p, 64); ++index) {
    const Tiles::Place place = Tiles::place_of(shape, index);
    for (int tile = Tiles::next(shape, place, place.first); tile < place.last;
         tile = Tiles::next(shape, place, tile + 1)) {
      ++visited;
    }
  }
  CHECK(visited == count_visited_tiles(p, 64, 64));
}

namespace {

constexpr int64_t kBlockSizes[] = {1, 3, 16, 64, 100, 128};

/// What is wrong with a list of visits, told by every pair of query and key; empty: nothing.
std::string visits_error(const Problem& p, int64_t rows, int64_t keys, const std::vector<int>& words) {
  MaskRule rule = p.mask_rule(), band = rule;
  rule.lengths = band.lengths = nullptr;
  band.blocks = nullptr;
  const int64_t tiles = (p.seq_kv + keys - 1) / keys, stride = TileVisits::stride_of(p, keys);
  const bool no_band = rule.band_low > rule.band_high;  // hides everything: what blocks do does not matter
  for (int64_t i0 = 0, at = 0; i0 < p.seq_q; i0 += rows, at += stride) {
    const int64_t i1 = std::min(i0 + rows, p.seq_q);
    const auto word = [&](int64_t tile) { return words.at(static_cast<size_t>(at + tile)); };
    if (word(tiles) != tiles || word(tiles + 1) != tiles) return "no end";
    for (int64_t tile = tiles - 1; tile >= 0; --tile) {
      const int64_t j0 = tile * keys, j1 = std::min(j0 + keys, p.seq_kv);
      bool seen = false, cut = false;
      for (int64_t i = i0; i < i1; ++i) {
        for (int64_t j = j0; j < j1; ++j) {
          seen = seen || rule.allows(0, i, j);
          cut = cut || (band.allows(0, i, j) && !rule.allows(0, i, j));
        }
      }
      const std::string where = ", queries from " + std::to_string(i0) + ", tile " + std::to_string(tile);
      const bool visited = (word(tile) & ~kCutTile) == tile;
      if (!visited && word(tile) != word(tile + 1)) return "a wrong way on" + where;
      if (!visited && seen) return "missed" + where;
      if (visited && rule.tile(0, i0, i1, j0, j1) == TileKind::empty) return "visited, though empty" + where;
      if (visited && !no_band && ((word(tile) & kCutTile) != 0) != cut) return "cut mistaken" + where;
    }
  }
  return "";
}

/// A block mask, alone or within a band.
Problem draw_block_problem(Random& random, int64_t nq, int64_t nk, const BlockFile& file) {
  const char* const bands[] = {"",           "causal+", "causal:topleft+", "window:40:0+", "window:70:90+",
                               "window:*:9+"};
  return Problem::parse("b=1,hq=1,nq=" + std::to_string(nq) + ",nk=" + std::to_string(nk) +
                        ",d=8,mask=" + bands[draw(random, 0, 5)] + "blocks:" + file.path);
}

}  // namespace

TEST_CASE("lists of visits against the elements of random block masks; errors in a list show") {
  Random random(17);
  const std::pair<int64_t, int64_t> shapes[] = {{128, 128}, {192, 128}, {128, 80}, {128, 64}, {64, 64}};
  int missed = 0, uncut = 0;
  for (const int64_t block_q : kBlockSizes) {
    for (const int64_t block_kv : kBlockSizes) {
      for (const auto& [rows, keys] : shapes) {
        const int64_t nq = draw(random, 1, 420), nk = draw(random, 1, 420);
        const BlockFile file(random_blocks(random, nq, nk, block_q, block_kv));
        const Problem p = draw_block_problem(random, nq, nk, file);
        const std::vector<int> words = TileVisits::list(p, rows, keys);
        INFO(p.text() << ", " << rows << " x " << keys << ", blocks of " << block_q << " x " << block_kv);
        REQUIRE(visits_error(p, rows, keys, words) == "");
        for (size_t k = 0; k + 1 < words.size(); ++k) {
          if (words[k] == words[k + 1]) continue;  // not a visit, or the end
          std::vector<int> wrong = words;
          wrong[k] = words[k + 1];
          const bool row_ends = (k + 2) % static_cast<size_t>(TileVisits::stride_of(p, keys)) < 2;
          if (row_ends) continue;
          const std::string error = visits_error(p, rows, keys, wrong);
          missed += error.find("missed") == 0;
          wrong = words;
          wrong[k] &= ~kCutTile;
          uncut += visits_error(p, rows, keys, wrong).find("cut mistaken") == 0;
        }
      }
    }
  }
  CHECK(missed > 100);
  CHECK(uncut > 100);
}

TEST_CASE("the list of one batch entry is in the workspace, to the byte, and only for block masks") {
  const BlockFile file("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  const Problem p = Problem::parse("b=3,hq=4,nq=90,nk=150,d=8,mask=causal+blocks:" + file.path);
  Workspace counting;
  CHECK(TileVisits::take(p, 64, 48, counting).stride == 4 + 2);
  REQUIRE(counting.bookings().size() == 1);
  CHECK(counting.bookings().front().name == "mask visits");
  CHECK(counting.bookings().front().bytes == TileVisits::list(p, 64, 48).size() * sizeof(int));
  TileVisits::take(Problem::parse("b=3,hq=4,nq=90,nk=150,d=8,mask=causal"), 64, 48, counting);
  CHECK(counting.bookings().size() == 1);
}

namespace {

/// visible_bits() of lanes for tiles of kColumns along a line of `length`. allows(column): the element
/// itself.
template <int kColumns, class Allows>
void check_line(const MaskLine& line, int64_t length, const Allows& allows) {
  for (int64_t c0 = 0; c0 < length; c0 += kColumns) {
    for (int lane = 0; lane < 32; lane += 5) {
      const uint32_t bits = visible_bits<kColumns>(line, static_cast<uint32_t>(c0), lane);
      for (int k = 0; k < kColumns / 4; ++k) {
        const int64_t column = c0 + k / 2 * 8 + mma_c(lane, k % 2).column;
        if (column < length && (bits >> k & 1) != allows(column)) FAIL("column " << column);
      }
    }
  }
}
template <int kColumns>
void check_bits(const Problem& p) {
  const MaskRule rule = p.mask_rule();
  for (int64_t i = 0; i < p.seq_q; i += 3) {
    INFO("query " << i);
    check_line<kColumns>(MaskLine::of_query(rule, p.seq_q, p.seq_kv, i), p.seq_kv,
                         [&](int64_t j) { return rule.allows(0, i, j); });
  }
  for (int64_t j = 0; j < p.seq_kv; j += 3) {
    INFO("key " << j);
    check_line<kColumns>(MaskLine::of_key(rule, p.seq_q, p.seq_kv, j), p.seq_q,
                         [&](int64_t i) { return rule.allows(0, i, j); });
  }
}

}  // namespace

TEST_CASE("what a lane sees of a tile under a block mask, against its elements") {
  Random random(19);
  for (const int64_t block_q : kBlockSizes) {
    for (const int64_t block_kv : kBlockSizes) {
      const int64_t nq = draw(random, 1, 300), nk = draw(random, 1, 300);
      const BlockFile file(random_blocks(random, nq, nk, block_q, block_kv));
      const Problem p = Problem::parse("b=1,hq=1,nq=" + std::to_string(nq) + ",nk=" + std::to_string(nk) +
                                       ",d=8,mask=blocks:" + file.path);
      INFO(p.text() << ", blocks of " << block_q << " x " << block_kv);
      check_bits<128>(p);
      check_bits<80>(p);
      check_bits<64>(p);
      check_bits<32>(p);
      check_bits<16>(p);
    }
  }
}

TEST_CASE("beyond the last query or key a line is that of the last; blocks may be longer than any sequence") {
  const BlockFile file("1099511627776 1099511627776 1 1\n0\n");
  const Problem p = Problem::parse("b=1,hq=1,nq=90,nk=2147483648,d=1,mask=blocks:" + file.path);
  const MaskLine line = MaskLine::of_query(p.mask_rule(), p.seq_q, p.seq_kv, 5000);
  CHECK(line.blocks == p.mask_rule().blocks);
  CHECK(MaskLine::of_key(p.mask_rule(), p.seq_q, p.seq_kv, p.seq_kv + 3).blocks == line.blocks);
  CHECK(visible_bits<128>(line, 0, 1) == ~0u);
  CHECK(visible_bits<128>(line, 2147483648u - 128, 3) == ~0u);
}
