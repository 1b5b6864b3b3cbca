// Which tiles the thread blocks of the fused CUDA kernels work on (variants/flash/flash_tiles.cuh), for every
// tile shape in use, against the mask element by element.

#include <random>
#include <set>

#include "tests/block_file.h"
#include "tests/catch.h"
#include "variants/flash/flash_tiles.cuh"

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
std::string draw_mask(Random& random, int64_t nk) {
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
  if (mask.empty() || draw(random, 0, 1) == 0) add("padding:" + std::to_string(draw(random, 0, nk)));
  return mask;
}

/// A file for a block mask of this shape.
std::string draw_blocks(Random& random, int64_t nq, int64_t nk) {
  const int64_t block_q = draw(random, 1, 90), block_kv = draw(random, 1, 90);
  const int64_t rows = (nq + block_q - 1) / block_q, columns = (nk + block_kv - 1) / block_kv;
  std::string text;
  for (const int64_t number : {block_q, block_kv, rows, columns}) text += std::to_string(number) + ' ';
  text.back() = '\n';
  for (int64_t r = 0; r < rows; ++r) {
    std::string line;
    for (int64_t c = 0; c < columns; ++c) {
      if (draw(random, 0, 2) != 0) continue;
      if (!line.empty()) line += ' ';
      line += std::to_string(c);
    }
    text += line + '\n';
  }
  return text;
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
    const int64_t nq = draw(random, 1, 300), nk = draw(random, 1, 300);
    std::string mask = draw_mask(random, nk);
    const BlockFile file(draw_blocks(random, nq, nk));
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
  const std::string mask =
      GENERATE("none", "causal", "window:9:4", "padding:50%/140", "causal+window:70:*", "blocks");
  const Problem p =
      Problem::parse("b=2,hq=1,nq=90,nk=150,d=8,mask=" + (mask == "blocks" ? "blocks:" + file.path : mask));
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
