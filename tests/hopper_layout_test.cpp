// Where sm_90's instructions put and find numbers (variants/common/hopper.cuh, wgmma.cuh, tensor_box.h):
// boxes of TMA, operands of wgmma through the descriptors that kernels build, accumulators, stmatrix. Against
// the PTX ISA's words as tests/host_tma.h and host_wgmma.h write them down; not against a GPU.

#include <numeric>

#include "tests/catch.h"
#include "tests/host_wgmma.h"
#include "variants/common/hopper.cuh"
#include "variants/common/tensor_box.h"

using namespace attn;

namespace {

/// A tensor of distinct numbers, as far as 16 bits go, with `gap` elements after each row.
struct Numbers {
  TensorShape shape;
  std::vector<uint16_t> memory;
  Tensor tensor;

  Numbers(const TensorShape& of, int64_t gap, bool head_major) : shape(of) {
    const int64_t row = shape.width + gap;
    memory.resize(static_cast<size_t>(shape.batch * shape.seq * shape.heads * row) + 8);
    for (size_t k = 0; k < memory.size(); ++k) memory[k] = static_cast<uint16_t>(1 + k * 7919 % 65521);
    auto at = reinterpret_cast<uintptr_t>(memory.data());
    tensor = {memory.data() + (16 - at % 16) % 16 / 2, shape.seq * shape.heads * row,
              head_major ? row : shape.heads * row, head_major ? shape.seq * row : row};
  }
  uint16_t at(int64_t b, int64_t i, int64_t h, int64_t c) const {
    if (i < 0 || i >= shape.seq || c >= shape.width) return 0;
    return static_cast<const uint16_t*>(
        tensor.data)[b * tensor.batch_stride + i * tensor.seq_stride + h * tensor.head_stride + c];
  }
  HostTensorMap map(int rows, int heads = 1) const {
    REQUIRE(tma_accepts(tensor, shape));
    return host_tensor_map(tensor.data, tensor_box(tensor, shape, rows, heads));
  }
};

/// Shared memory with one tile [rows, width] in chunks of 64 columns, as the kernels load it.
struct LoadedTile {
  static constexpr uint32_t kFirst = 1024, kTile = 3072;
  int rows, width;
  std::vector<char> memory;

  /// `pack`: heads from h on, whose rows i0, i0 + 1, .. the tile's rows are in turn.
  LoadedTile(const Numbers& numbers, int rows_, int b, int i0, int h, int pack = 1)
      : rows(rows_), width(static_cast<int>((numbers.shape.width + 63) / 64 * 64)) {
    memory.assign(static_cast<size_t>(kTile + 2 * rows * width), 0x55);
    const HostTensorMap map = numbers.map(rows / pack, pack);
    CHECK(map.box_bytes() == static_cast<uint32_t>(rows * 128));
    for (int c = 0; c < width; c += 64) {
      tma_load(map, {c, h, i0, b}, memory.data(), kFirst, kTile + static_cast<uint32_t>(rows * 2 * c));
    }
  }
  uint16_t at(uint32_t address) const {
    uint16_t element;
    REQUIRE((address >= kTile && address + 2 <= kFirst + memory.size()));
    std::memcpy(&element, memory.data() + (address - kFirst), 2);
    return element;
  }
};

constexpr int kTileRows[] = {64, 80, 96, 112, 128, 160, 176, 192, 256};
constexpr int kWidths[] = {64, 128, 256};

/// Elements that the descriptors of a product find elsewhere than the tensor has them; -1 for a descriptor
/// that is an error.
template <class Descriptor>
int wrong_elements(const LoadedTile& tile, const Numbers& numbers, int i0, bool transposed, int steps,
                   int mn_count, int first, const Descriptor& descriptor) {
  int wrong = 0;
  for (int k = 0; k < steps; ++k) {
    try {
      const HostDescriptor operand(descriptor(k));
      for (int mn = 0; mn < mn_count; ++mn) {
        for (int e = 0; e < 16; ++e) {
          const int outer = first + mn, inner = 16 * k + e;
          const uint16_t expected =
              transposed ? numbers.at(1, i0 + inner, 1, outer) : numbers.at(1, i0 + outer, 1, inner);
          const uint32_t address = operand.place(transposed, mn, e);
          if (address < LoadedTile::kTile || address + 2 > LoadedTile::kFirst + tile.memory.size()) return -1;
          if (tile.at(address) != expected) ++wrong;
        }
      }
    } catch (const std::logic_error&) {
      return -1;
    }
  }
  return wrong;
}

}  // namespace

TEST_CASE("a box of TMA lies where kernels expect it, zeros beyond the tensor") {
  const bool head_major = GENERATE(false, true);
  const int64_t gap = GENERATE(0, 8);
  for (const int width : kWidths) {
    for (const int rows : kTileRows) {
      const Numbers numbers({2, 300, 3, width}, gap, head_major);
      const int i0 = 300 - rows / 2;  // half of the rows are beyond the tensor
      const LoadedTile tile(numbers, rows, 1, i0, 1);
      for (int i = 0; i < rows; ++i) {
        for (int c = 0; c < width; ++c) {
          const uint32_t chunk = LoadedTile::kTile + static_cast<uint32_t>(c / 64 * rows * 128);
          REQUIRE(tile.at(chunk + swizzled_128(i, c % 64)) == numbers.at(1, i0 + i, 1, c));
        }
      }
    }
  }
}

TEST_CASE("a box of packed queries holds the heads of a query side by side") {
  const bool head_major = GENERATE(false, true);
  const int64_t gap = GENERATE(0, 8);
  for (const int pack : {1, 2, 4, 8, 16}) {
    for (const int width : {40, 64, 200}) {
      const Numbers numbers({2, 37, 32, width}, gap, head_major);
      for (const int i0 : {0, 64 / pack, 36}) {  // the last one's rows end after one query
        const LoadedTile tile(numbers, 64, 1, i0, 32 - 2 * pack, pack);
        for (int row = 0; row < 64; ++row) {
          for (int c = 0; c < tile.width; ++c) {
            const uint32_t chunk = LoadedTile::kTile + static_cast<uint32_t>(c / 64 * 64 * 128);
            REQUIRE(tile.at(chunk + swizzled_128(row, c % 64)) ==
                    numbers.at(1, i0 + row / pack, 32 - 2 * pack + row % pack, c));
          }
        }
      }
    }
  }
}

TEST_CASE("a box of packed outputs stores queries that are there, and nothing else") {
  constexpr uint32_t kFrom = 2048;
  const bool head_major = GENERATE(false, true);
  for (const int pack : {1, 2, 4, 8, 16}) {
    const Numbers expected({2, 5, 32, 64}, 8, head_major);
    Numbers stored = expected;
    stored.memory.assign(stored.memory.size(), 0);
    stored.tensor.data =
        stored.memory.data() + (static_cast<uint16_t*>(expected.tensor.data) - expected.memory.data());
    const int i0 = 4, h = 32 - pack;  // of 16 / pack queries only the first is there, but for packs of 16
    std::vector<char> shared(kFrom + 16 * 128);
    for (int row = 0; row < 16; ++row) {
      for (int c = 0; c < 64; ++c) {
        const uint16_t number = row / pack == 0 ? expected.at(1, i0, h + row, c) : uint16_t{0xdead};
        std::memcpy(shared.data() + kFrom + swizzled_128(row, c), &number, 2);
      }
    }
    tma_store(stored.map(16 / pack, pack), {0, h, i0, 1}, shared.data(), 0, kFrom);
    int64_t found = 0;
    for (const uint16_t number : stored.memory) found += number != 0;
    CHECK(found == pack * 64);
    for (int head = 0; head < pack; ++head) {
      for (int c = 0; c < 64; ++c) REQUIRE(stored.at(1, i0, h + head, c) == expected.at(1, i0, h + head, c));
    }
  }
}

TEST_CASE("channels beyond a head's width are zeros, not the next head's") {
  for (const int width : {8, 40, 72, 200}) {
    const Numbers numbers({2, 100, 3, width}, 0, false);
    const LoadedTile tile(numbers, 64, 1, 0, 1);
    for (int i = 0; i < 64; ++i) {
      for (int c = 0; c < tile.width; ++c) {
        const uint32_t chunk = LoadedTile::kTile + static_cast<uint32_t>(c / 64 * 64 * 128);
        REQUIRE(tile.at(chunk + swizzled_128(i, c % 64)) == numbers.at(1, i, 1, c));
      }
    }
  }
}

TEST_CASE("descriptors find the tensor's elements: rows of the tile are rows of A or columns of B") {
  for (const int width : kWidths) {
    for (const int rows : kTileRows) {
      const Numbers numbers({2, 300, 3, width}, 0, false);
      const LoadedTile tile(numbers, rows, 1, 30, 1);
      const auto along = [&](int k) { return WgmmaOperand::along(LoadedTile::kTile, rows, k); };
      CHECK(wrong_elements(tile, numbers, 30, false, width / 16, rows, 0, along) == 0);  // B
      for (int first = 0; first + 64 <= rows; first += 8) {                              // A, 64 rows of it
        const auto part = [&](int k) {
          return WgmmaOperand::along(LoadedTile::kTile + static_cast<uint32_t>(first * 128), rows, k);
        };
        CHECK(wrong_elements(tile, numbers, 30, false, width / 16, 64, first, part) == 0);
      }
    }
  }
}

TEST_CASE("descriptors find the tensor's elements: columns of the tile are columns of B or rows of A") {
  for (const int width : kWidths) {
    for (const int rows : kTileRows) {
      const Numbers numbers({2, 300, 3, width}, 0, false);
      const LoadedTile tile(numbers, rows, 1, 30, 1);
      const auto across = [&](int k) { return WgmmaOperand::across(LoadedTile::kTile, rows, k); };
      CHECK(wrong_elements(tile, numbers, 30, true, rows / 16, width, 0, across) == 0);  // B
      for (int first = 0; first < width; first += 64) {                                  // A, 64 columns
        const auto part = [&](int k) {
          return WgmmaOperand::across(LoadedTile::kTile + static_cast<uint32_t>(first * rows * 2), rows, k);
        };
        CHECK(wrong_elements(tile, numbers, 30, true, rows / 16, 64, first, part) == 0);
      }
    }
  }
}

TEST_CASE("wrong descriptors do not find them") {
  constexpr int kRows = 128, kWidth = 128;
  const Numbers numbers({2, 300, 3, kWidth}, 0, false);
  const LoadedTile tile(numbers, kRows, 1, 30, 1);
  using Operand = WgmmaOperand;
  const auto along = [&](auto change) {
    return wrong_elements(tile, numbers, 30, false, kWidth / 16, kRows, 0,
                          [&](int k) { return change(Operand::along(LoadedTile::kTile, kRows, k), k); });
  };
  const auto across = [&](auto change) {
    return wrong_elements(tile, numbers, 30, true, kRows / 16, kWidth, 0,
                          [&](int k) { return change(Operand::across(LoadedTile::kTile, kRows, k), k); });
  };
  CHECK(along([](uint64_t d, int) { return d; }) == 0);
  CHECK(across([](uint64_t d, int) { return d; }) == 0);
  // the swizzle's mode, the two offsets, the step along k, the majorness, a start within 8 rows
  CHECK(along([](uint64_t d, int) { return d ^ uint64_t { 3 } << 62; }) != 0);
  CHECK(along([](uint64_t d, int) { return d ^ uint64_t { 64 ^ 128 } << 32; }) != 0);
  CHECK(across([](uint64_t d, int) { return d ^ uint64_t { 64 ^ 128 } << 32; }) != 0);
  CHECK(across([](uint64_t d, int) { return d ^ uint64_t { 1024 ^ 512 } << 16; }) != 0);
  CHECK(along([](uint64_t d, int k) { return d + static_cast<uint64_t>(k); }) != 0);
  CHECK(across([](uint64_t d, int k) { return d - static_cast<uint64_t>(64 * k); }) != 0);
  CHECK(along([](uint64_t d, int) { return d + 8; }) != 0);
  CHECK(along([&](uint64_t, int k) { return Operand::across(LoadedTile::kTile, kRows, k); }) != 0);
  CHECK(across([&](uint64_t, int k) { return Operand::along(LoadedTile::kTile, kRows, k); }) != 0);
  CHECK(across([&](uint64_t, int k) { return Operand::across(LoadedTile::kTile, kRows - 16, k); }) != 0);
  CHECK(along([&](uint64_t, int k) { return Operand::along(LoadedTile::kTile, kRows - 8, k); }) != 0);
}

TEST_CASE("accumulators of a product are the A operand of the next, packed in pairs") {
  // "Register Fragments for wgmma.mma_async.m64nNk16": row = 16 warp + lane / 4 (+ 8 for odd pairs), column =
  // 8 (i / 4) + 2 (lane % 4) + i % 2; A: a0 a1 and a4 a5 in row lane / 4, a2 a3 and a6 a7 eight rows below,
  // a4 .. a7 eight columns further.
  for (int warp = 0; warp < 4; ++warp) {
    for (int lane = 0; lane < 32; ++lane) {
      for (int i = 0; i < 128; ++i) {
        CHECK(wgmma_d(warp, lane, i).row == warp * 16 + (lane >> 2) + (i & 2 ? 8 : 0));
        CHECK(wgmma_d(warp, lane, i).column == 8 * (i / 4) + lane % 4 * 2 + (i & 1));
      }
      for (int e = 0; e < 8; ++e) {
        CHECK(wgmma_a(warp, lane, e).row == warp * 16 + (lane >> 2) + (e & 2 ? 8 : 0));
        CHECK(wgmma_a(warp, lane, e).column == lane % 4 * 2 + (e & 1) + (e & 4 ? 8 : 0));
        for (int k = 0; k < 16; ++k) {
          const Cell sum = wgmma_d(warp, lane, 8 * k + e), operand = wgmma_a(warp, lane, e);
          CHECK((sum.row == operand.row && sum.column == 16 * k + operand.column));
        }
      }
    }
  }
}

TEST_CASE("stmatrix through the swizzle and a TMA store put sums at their places, without bank conflicts") {
  constexpr uint32_t kAt = 2048;
  const Numbers expected({1, 64, 2, 64}, 8, false);
  Numbers stored = expected;
  stored.tensor.data =
      stored.memory.data() + (static_cast<uint16_t*>(expected.tensor.data) - expected.memory.data());
  std::fill(stored.memory.begin(), stored.memory.end(), uint16_t{0});
  std::vector<char> shared(kAt + 64 * 128);
  for (int warp = 0; warp < 4; ++warp) {
    for (int k = 0; k < 4; ++k) {  // 16 columns at a time, as four matrices of 8x8
      for (int matrix = 0; matrix < 4; ++matrix) {
        unsigned banks = 0;
        for (int row = 0; row < 8; ++row) {
          const Chunk at = chunk_of_a(8 * matrix + row);
          const uint32_t to = kAt + swizzled_128(16 * warp + at.row, 16 * k + 8 * at.chunk);
          banks |= 1u << to / 16 % 8;
          for (int column = 0; column < 8; ++column) {
            const int lane = row * 4 + column / 2;  // whose register `matrix` holds the pair
            const Cell of = wgmma_d(warp, lane, 8 * k + 2 * matrix + column % 2);
            const uint16_t sum = expected.at(0, of.row, 1, of.column);
            std::memcpy(shared.data() + to + 2 * column, &sum, 2);
          }
        }
        CHECK(banks == 0xff);
      }
    }
  }
  tma_store(stored.map(64), {0, 1, 0, 0}, shared.data(), 0, kAt);
  for (int i = 0; i < 64; ++i) {
    for (int c = 0; c < 64; ++c) REQUIRE(stored.at(0, i, 1, c) == expected.at(0, i, 1, c));
    REQUIRE(stored.at(0, i, 0, 0) == 0);  // the other head
  }
}

TEST_CASE("the model refuses what the driver or a GPU would") {
  const Numbers numbers({1, 100, 1, 64}, 0, false);
  HostTensorMap map = numbers.map(64);
  CHECK_NOTHROW(map.check());
  map.box[2] = 257;
  CHECK_THROWS(map.check());
  map.box[2] = 64;
  map.strides[1] = 24;
  CHECK_THROWS(map.check());
  CHECK_FALSE(tma_accepts(Numbers({1, 100, 2, 60}, 0, false).tensor, {1, 100, 2, 60}));
  std::vector<char> memory(65536);
  CHECK_THROWS(tma_load(numbers.map(64), {0, 0, 0, 0}, memory.data(), 0, 64));
  CHECK_THROWS(HostDescriptor(WgmmaOperand::along(1024 + 128, 64, 0)));
  CHECK_THROWS(HostDescriptor(WgmmaOperand::along(1024, 64, 0) | uint64_t{1} << 50));
}
