// Index maps of the tensor-core instructions and of the swizzled tiles (variants/common/mma_layout.h,
// tile16.cuh), against the PTX ISA's formulas, against plain matrix products, and for bank conflicts.

#include <numeric>
#include <set>

#include "tests/catch.h"
#include "tests/host_warp.h"
#include "variants/common/tile16.cuh"

using namespace attn;

namespace {

/// Banks of 4 bytes that a 16-byte chunk occupies are those of its place modulo 128 bytes.
int bank_group(int element_offset) { return element_offset * 2 / 16 % 8; }

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
  SwizzledMatrix(const std::vector<T>& values, int rows) : memory(static_cast<size_t>(rows * kWidth / 8)) {
    for (int row = 0; row < rows; ++row) {
      for (int c = 0; c < kWidth; ++c) {
        tile()[Tile16<T, kWidth>::offset(row, c / 8) + c % 8] = values[static_cast<size_t>(row * kWidth + c)];
      }
    }
  }
};

/// The one lane state that the products below need.
struct Sums {
  float c[8][4];  // [16, 64]
  float d[8][4];
};

/// a [16, kWidth] times the transpose of b [64, kWidth]; then that, rounded to T, times v [64, 64 columns].
template <class T, int kWidth>
void check_products() {
  using Tile = Tile16<T, kWidth>;
  const auto a = random_numbers<T>(16 * kWidth, 1), b = random_numbers<T>(64 * kWidth, 2);
  auto v = random_numbers<T>(64 * kWidth, 3);
  SwizzledMatrix<T, kWidth> a_tile(a, 16), b_tile(b, 64), v_tile(v, 64);
  std::vector<Sums> states(kWarpLanes, Sums{});
  HostWarp<Sums> warp(states.data(), 0);
  for (int step = 0; step < kWidth / 16; ++step) {
    const auto left = warp.load_matrices<false>([&](int lane) {
      return a_tile.tile() + Tile::offset(chunk_of_a(lane).row, 2 * step + chunk_of_a(lane).chunk);
    });
    for (int n = 0; n < 8; n += 2) {
      const auto right = warp.load_matrices<false>([&](int lane) {
        return b_tile.tile() + Tile::offset(8 * n + chunk_of_b(lane).row, 2 * step + chunk_of_b(lane).chunk);
      });
      for (int half = 0; half < 2; ++half) {
        warp.multiply<T>([=](Sums& state) -> float(&)[4] { return state.c[n + half]; }, left, right, half);
      }
    }
  }
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
        REQUIRE(states[static_cast<size_t>(lane)].c[n][e] ==
                product[static_cast<size_t>(at.row * 64 + 8 * n + at.column)]);
        states[static_cast<size_t>(lane)].c[n][e] /= 1024;  // the sums below stay exact in float32
        product[static_cast<size_t>(at.row * 64 + 8 * n + at.column)] /= 1024;
      }
    }
  }
  for (int step = 0; step < 4; ++step) {
    const auto weights = warp.make([&](int, Sums& state) {
      Matrices left;
      for (int r = 0; r < 4; ++r) {
        const WeightPair from = weights_of_a(r);
        const float* pair = state.c[2 * step + from.tile] + from.first;
        left.of[r] = pack<T>(pair[0], pair[1]);
      }
      return left;
    });
    for (int n = 0; n < 8; n += 2) {
      const auto right = warp.load_matrices<true>([&](int lane) {
        const Chunk at = chunk_of_b_transposed(lane);
        return v_tile.tile() + Tile::offset(16 * step + at.row, n + at.chunk);
      });
      for (int half = 0; half < 2; ++half) {
        warp.multiply<T>([=](Sums& state) -> float(&)[4] { return state.d[n + half]; }, weights, right, half);
      }
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int n = 0; n < 8; ++n) {
      for (int e = 0; e < 4; ++e) {
        const Cell at = mma_c(lane, e);
        double expected = 0;
        for (int j = 0; j < 64; ++j) {
          T weight;
          set(weight, product[static_cast<size_t>(at.row * 64 + j)]);
          expected += static_cast<double>(to_float(weight)) *
                      to_float(v[static_cast<size_t>(j * kWidth + 8 * n + at.column)]);
        }
        REQUIRE(std::abs(states[static_cast<size_t>(lane)].d[n][e] - expected) < 1e-4);
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

TEMPLATE_TEST_CASE("a swizzled tile holds every element once", "", (Tile16<Bf16, 64>), (Tile16<Bf16, 128>),
                   (Tile16<F16, 256>)) {
  std::set<int> offsets;
  for (int row = 0; row < 128; ++row) {
    for (int chunk = 0; chunk < TestType::kChunks; ++chunk) {
      const int offset = TestType::offset(row, chunk);
      CHECK(offset % 8 == 0);
      CHECK(offset / (8 * TestType::kChunks) == row);
      offsets.insert(offset);
    }
  }
  CHECK(offsets.size() == size_t{128} * TestType::kChunks);
}

TEMPLATE_TEST_CASE("tiles have no bank conflicts", "", (Tile16<Bf16, 64>), (Tile16<Bf16, 128>),
                   (Tile16<Bf16, 256>)) {
  const auto distinct = [](const auto& offset_of) {  // 8 times 16 bytes in one pass: 32 banks, each once
    std::set<int> groups;
    for (int k = 0; k < 8; ++k) groups.insert(bank_group(offset_of(k)));
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
      for (int n = 0; n < 8; ++n) lines.insert(offset_of(n) / 64);
      CHECK(lines.size() == 1);
    }
  }
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
                   (Tile16<Bf16, 256>)) {
  std::set<std::pair<int, int>> moved;
  for (int thread = 0; thread < 128; ++thread) {
    for (int k = 0; k < 64 * TestType::kChunks / 128; ++k) {
      const Chunk at = TestType::template moved<128>(thread, k);
      CHECK((at.row < 64 && at.chunk < TestType::kChunks));
      moved.insert({at.row, at.chunk});
    }
  }
  CHECK(moved.size() == size_t{64} * TestType::kChunks);
}

TEST_CASE("products through the fragments are products of matrices") {
  check_products<Bf16, 64>();
  check_products<Bf16, 128>();
  check_products<Bf16, 256>();
  check_products<F16, 64>();
  check_products<F16, 128>();
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
