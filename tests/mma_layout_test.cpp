// Index maps of the tensor-core instructions and of the swizzled tiles (variants/common/mma_layout.h,
// tile16.cuh), against the PTX ISA's formulas, against plain matrix products, and for bank conflicts.

#include <numeric>
#include <set>

#include "tests/catch.h"
#include "tests/host_warp.h"
#include "variants/common/mma_products.cuh"

using namespace attn;

namespace {

/// Banks of 4 bytes that a 16-byte chunk occupies are those of its place modulo 128 bytes.
template <class T>
int bank_group(int element_offset) {
  return element_offset * static_cast<int>(sizeof(T)) / 16 % 8;
}

template <class T>
std::vector<T> random_numbers(size_t count, uint32_t seed) {
  std::vector<T> numbers(count);
  for (T& number : numbers) {
    seed = seed * 1664525u + 1013904223u;
    set(number, static_cast<float>(static_cast<int>(seed >> 24) - 128) / 16);
  }
  return numbers;
}

/// A [rows, width] matrix in a swizzled tile.
template <class T, int kWidth>
struct SwizzledMatrix {
  std::vector<Words> memory;
  T* tile() { return reinterpret_cast<T*>(memory.data()); }
  SwizzledMatrix(const std::vector<T>& values, int rows)
      : memory(static_cast<size_t>(rows * Tile16<T, kWidth>::kChunks)) {
    for (int row = 0; row < rows; ++row) {
      for (int c = 0; c < kWidth; ++c) {
        tile()[Tile16<T, kWidth>::place(row, c)] = values[static_cast<size_t>(row * kWidth + c)];
      }
    }
  }
};

/// The one lane state that the products below need.
struct Sums {
  Accumulators<1, 8> c;  // [16, 64]
  Accumulators<1, 8> d;
  Accumulators<1, 16> d_128;
  Accumulators<1, 32> d_256;

  template <int kWidth>
  static constexpr auto products() {
    if constexpr (kWidth == 64) return &Sums::d;
    if constexpr (kWidth == 128) return &Sums::d_128;
    if constexpr (kWidth == 256) return &Sums::d_256;
  }
};

/// a [16, kWidth] times the transpose of b [64, kWidth]; then that, rounded to T, times v [64, kWidth].
template <class T, int kWidth>
void check_products() {
  const auto a = random_numbers<T>(16 * kWidth, 1), b = random_numbers<T>(64 * kWidth, 2);
  const auto v = random_numbers<T>(64 * kWidth, 3);
  SwizzledMatrix<T, kWidth> a_tile(a, 16), b_tile(b, 64), v_tile(v, 64);
  std::vector<Sums> states(kWarpLanes, Sums{});
  HostWarp<Sums> warp(states.data(), 0);
  multiply_tiles<T, kWidth>(warp, a_tile.tile(), b_tile.tile(), &Sums::c);
  std::vector<float> product(16 * 64);
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 64; ++j) {
      for (int c = 0; c < kWidth; ++c) {
        product[static_cast<size_t>(i * 64 + j)] += to_float(a[static_cast<size_t>(i * kWidth + c)]) *
                                                    to_float(b[static_cast<size_t>(j * kWidth + c)]);
      }
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int n = 0; n < 8; ++n) {
      for (int e = 0; e < 4; ++e) {
        const Cell at = mma_c(lane, e);
        float &found = states[static_cast<size_t>(lane)].c[0][n][e],
              &expected = product[static_cast<size_t>(at.row * 64 + 8 * n + at.column)];
        REQUIRE(found == expected);
        found /= 1024;  // the sums below stay exact in float32
        expected /= 1024;
      }
    }
  }
  add_weighted_tile<T, kWidth>(warp, &Sums::c, static_cast<const T*>(v_tile.tile()),
                               Sums::products<kWidth>());
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    const auto& found = states[static_cast<size_t>(lane)].*Sums::products<kWidth>();
    for (int n = 0; n < kWidth / 8; ++n) {
      for (int e = 0; e < 4; ++e) {
        const Cell at = mma_c(lane, e);
        double expected = 0;
        for (int j = 0; j < 64; ++j) {
          T weight;
          set(weight, product[static_cast<size_t>(at.row * 64 + j)]);
          expected += static_cast<double>(to_float(weight)) *
                      to_float(v[static_cast<size_t>(j * kWidth + 8 * n + at.column)]);
        }
        REQUIRE(std::abs(found[0][n][e] - expected) < 1e-4);
      }
    }
  }
}

}  // namespace

TEST_CASE("fragments are those of the PTX ISA") {
  // "Matrix Fragments for mma.m16n8k16": groupID = %laneid >> 2, threadID_in_group = %laneid % 4.
  for (int lane = 0; lane < 32; ++lane) {
    const int group = lane >> 2, thread = lane % 4;
    for (int i = 0; i < 8; ++i) {
      const bool upper = (i >= 0 && i < 2) || (i >= 4 && i < 6);
      CHECK(mma_a(lane, i).row == (upper ? group : group + 8));
      CHECK(mma_a(lane, i).column == thread * 2 + (i & 1) + (i < 4 ? 0 : 8));
    }
    for (int i = 0; i < 4; ++i) {
      CHECK(mma_b(lane, i).row == thread * 2 + (i & 1) + (i < 2 ? 0 : 8));
      CHECK(mma_b(lane, i).column == group);
      CHECK(mma_c(lane, i).row == (i < 2 ? group : group + 8));
      CHECK(mma_c(lane, i).column == thread * 2 + (i & 1));
    }
    // "ldmatrix": threads 0-3 hold row 0, two consecutive elements each; threads 4-7 row 1, and so on.
    for (int half = 0; half < 2; ++half) {
      CHECK(matrix_element(lane, half).row == group);
      CHECK(matrix_element(lane, half).column == 2 * thread + half);
    }
    // "Matrix Fragments for mma.m16n8k8", .tf32
    for (int i = 0; i < 4; ++i) {
      CHECK(mma_a_tf32(lane, i).row == (i == 0 || i == 2 ? group : group + 8));
      CHECK(mma_a_tf32(lane, i).column == (i < 2 ? thread : thread + 4));
    }
    for (int i = 0; i < 2; ++i) {
      CHECK(mma_b_tf32(lane, i).row == (i == 0 ? thread : thread + 4));
      CHECK(mma_b_tf32(lane, i).column == group);
    }
  }
}

TEST_CASE("two score fragments are one weight fragment") {
  for (int lane = 0; lane < 32; ++lane) {
    for (int element = 0; element < 8; ++element) {
      const WeightPair from = weights_of_a(element / 2);
      const Cell score = mma_c(lane, from.first + element % 2), weight = mma_a(lane, element);
      CHECK(weight.row == score.row);
      CHECK(weight.column == score.column + 8 * from.tile);
    }
  }
}

TEST_CASE("in tf32 one score fragment is one weight fragment, its keys in another order") {
  std::set<int> keys;
  for (int k = 0; k < 8; ++k) keys.insert(key_of_tf32(k));
  CHECK((keys.size() == 8 && *keys.begin() == 0 && *keys.rbegin() == 7));
  for (int lane = 0; lane < 32; ++lane) {
    for (int r = 0; r < 4; ++r) {
      const Cell score = mma_c(lane, weight_of_a_tf32(r)), weight = mma_a_tf32(lane, r);
      CHECK(weight.row == score.row);
      CHECK(key_of_tf32(weight.column) == score.column);
    }
    for (int r = 0; r < 2; ++r) {
      const Word word = word_of_b_tf32(lane, r);
      CHECK(word.row == key_of_tf32(mma_b_tf32(lane, r).row));
      CHECK(4 * word.chunk + word.element == mma_b_tf32(lane, r).column);
    }
  }
}

TEST_CASE("numbers are rounded and split as tf32 is") {
  CHECK(tf32_rounded(1 + 0x1p-10f) == 1 + 0x1p-10f);
  CHECK(tf32_rounded(1 + 0x1p-11f) == 1 + 0x1p-10f);  // a tie goes away from zero
  CHECK(tf32_rounded(-1 - 0x1p-11f) == -1 - 0x1p-10f);
  CHECK(tf32_rounded(1 + 0x1.ffp-12f) == 1);
  CHECK(std::isinf(tf32_rounded(INFINITY)));
  CHECK(std::isnan(tf32_rounded(NAN)));
  uint32_t seed = 1;
  for (int k = 0; k < 100000; ++k) {
    seed = seed * 1664525u + 1013904223u;
    Matrices whole{{seed & 0xbfffffffu, 0x3f800000u | seed >> 9, 0, 0x80000000u}};
    const SplitMatrices split = operand_of<float>(whole);
    for (int r = 0; r < 4; ++r) {
      float x, big, small;
      std::memcpy(&x, &whole.of[r], 4);
      std::memcpy(&big, &split.big.of[r], 4);
      std::memcpy(&small, &split.small.of[r], 4);
      REQUIRE(((split.big.of[r] | split.small.of[r]) & 0x1fffu) == 0);
      if (std::abs(x) < 0x1p-100f) continue;  // subnormal rests
      const double rest = static_cast<double>(x) - big - small;
      REQUIRE(std::abs(small) <= 0x1p-11 * std::abs(x));
      REQUIRE(std::abs(rest) <= 0x1p-23 * std::abs(x));
    }
  }
}

TEMPLATE_TEST_CASE("a swizzled tile holds every element once", "", (Tile16<Bf16, 64>), (Tile16<Bf16, 128>),
                   (Tile16<F16, 256>), (Tile16<float, 64>), (Tile16<float, 128>), (Tile16<float, 256>)) {
  std::set<int> offsets;
  for (int row = 0; row < 128; ++row) {
    for (int chunk = 0; chunk < TestType::kChunks; ++chunk) {
      const int offset = TestType::offset(row, chunk);
      CHECK(offset % TestType::kElements == 0);
      CHECK(offset / (TestType::kElements * TestType::kChunks) == row);
      CHECK(offset == TestType::offset(row, chunk / 2 * 2, chunk % 2));
      CHECK(TestType::place(row, TestType::kElements * chunk + 1) == offset + 1);
      offsets.insert(offset);
    }
  }
  CHECK(offsets.size() == size_t{128} * TestType::kChunks);
}

TEMPLATE_TEST_CASE("tiles have no bank conflicts", "", (Tile16<Bf16, 64>), (Tile16<Bf16, 128>),
                   (Tile16<Bf16, 256>), (Tile16<float, 64>), (Tile16<float, 128>), (Tile16<float, 256>)) {
  using Element = std::conditional_t<TestType::kElements == 8, Bf16, float>;
  const auto distinct = [](const auto& offset_of) {  // 8 times 16 bytes in one pass: 32 banks, each once
    std::set<int> groups;
    for (int k = 0; k < 8; ++k) groups.insert(bank_group<Element>(offset_of(k)));
    return groups.size() == 8;
  };
  for (int phase = 0; phase < 4; ++phase) {
    for (int chunk = 0; chunk < TestType::kChunks; chunk += 2) {
      for (int row = 0; row < 64; row += 16) {
        for (const auto map : {chunk_of_a, chunk_of_b, chunk_of_b_transposed}) {
          CHECK(distinct([&](int k) {
            const Chunk at = map(8 * phase + k);
            return TestType::offset(row + at.row, chunk + at.chunk);
          }));
        }
      }
    }
  }
  for (int k = 0; k < 4; ++k) {
    for (int first = 0; first < 128; first += 8) {
      const auto offset_of = [&](int neighbour) {
        const Chunk at = TestType::template moved<128>(first + neighbour, k);
        return TestType::offset(at.row, at.chunk);
      };
      CHECK(distinct(offset_of));
      std::set<int> lines;  // and one line of memory
      for (int n = 0; n < 8; ++n) lines.insert(offset_of(n) / (8 * TestType::kElements));
      CHECK(lines.size() == 1);
    }
  }
  if (TestType::kElements == 4) return;                   // two lanes meet in a bank, once a block
  for (int tile = 0; tile < TestType::kChunks; ++tile) {  // O on its way out: 4 bytes a lane
    std::set<int> banks;
    for (int lane = 0; lane < 32; ++lane) {
      const Cell at = mma_c(lane, 0);
      banks.insert((TestType::offset(at.row, tile) + at.column) / 2 % 32);
    }
    CHECK(banks.size() == 32);
  }
}

TEMPLATE_TEST_CASE("threads move every chunk once", "", (Tile16<Bf16, 64>), (Tile16<Bf16, 128>),
                   (Tile16<Bf16, 256>), (Tile16<float, 64>), (Tile16<float, 128>), (Tile16<float, 256>)) {
  std::set<std::pair<int, int>> moved, stored;
  for (int thread = 0; thread < 128; ++thread) {
    for (int k = 0; k < 64 * TestType::kChunks / 128; ++k) {
      const Chunk at = TestType::template moved<128>(thread, k);
      CHECK((at.row < 64 && at.chunk < TestType::kChunks));
      moved.insert({at.row, at.chunk});
    }
  }
  CHECK(moved.size() == size_t{64} * TestType::kChunks);
  for (int lane = 0; lane < 32; ++lane) {
    for (int k = 0; k < 16 * TestType::kChunks / 32; ++k) {
      const Chunk at = TestType::template moved<32>(lane, k);
      CHECK((at.row < 16 && at.chunk < TestType::kChunks));
      stored.insert({at.row, at.chunk});
    }
  }
  CHECK(stored.size() == size_t{16} * TestType::kChunks);
}

TEST_CASE("products through the fragments are products of matrices") {
  check_products<Bf16, 64>();
  check_products<Bf16, 128>();
  check_products<Bf16, 256>();
  check_products<F16, 64>();
  check_products<F16, 128>();
  check_products<float, 64>();
  check_products<float, 128>();
  check_products<float, 256>();
}

TEST_CASE("the model of ldmatrix refuses what costs a GPU time or is an error") {
  alignas(128) uint16_t memory[64 * 64] = {};
  Matrices loaded[32];
  CHECK_NOTHROW(model_ldmatrix(
      false, [&](int lane) { return memory + 8 * lane; }, loaded));
  CHECK_THROWS(model_ldmatrix(
      false, [&](int lane) { return memory + 8 * lane + 1; }, loaded));
  CHECK_THROWS(model_ldmatrix(
      false, [&](int lane) { return memory + 64 * lane; }, loaded));
}

TEMPLATE_TEST_CASE("cleaning takes out NaN and infinity and nothing else", "", Bf16, F16) {
  using Tile = Tile16<TestType, 64>;
  alignas(16) TestType tile[64 * 64];
  for (uint32_t first = 0; first < 65536; first += 4096) {
    for (uint32_t k = 0; k < 4096; ++k) tile[k].bits = static_cast<uint16_t>(first + k);
    bool found = false, expected = false;
    for (int thread = 0; thread < 128; ++thread) {
      found = Tile::template clean<64, 128>(thread, tile) || found;
    }
    for (uint32_t k = 0; k < 4096; ++k) {
      const TestType before{static_cast<uint16_t>(first + k)};
      const bool bad = !std::isfinite(to_float(before));
      expected = expected || bad;
      REQUIRE(tile[k].bits == (bad ? 0 : before.bits));
    }
    CHECK(found == expected);
  }
}
