#pragma once
// Operands of wgmma in shared memory, on the host: what element a matrix descriptor names, by the PTX ISA
// ("Asynchronous warpgroup level matrix shared memory layout", canonical layouts; 16-bit numbers and the
// 128-byte swizzle only), as CUTLASS writes them out in include/cute/arch/mma_sm90_desc.hpp.

#include <cstdint>
#include <stdexcept>

#include "tests/host_tma.h"
#include "variants/common/mma_layout.h"

namespace attn {

/// The fields of the 64 bits. Offsets in bytes.
struct HostDescriptor {
  uint32_t address, leading, stride;
  int base_offset, swizzle;

  explicit HostDescriptor(uint64_t bits)
      : address(static_cast<uint32_t>(bits & 0x3fff) << 4),
        leading(static_cast<uint32_t>(bits >> 16 & 0x3fff) << 4),
        stride(static_cast<uint32_t>(bits >> 32 & 0x3fff) << 4),
        base_offset(static_cast<int>(bits >> 49 & 7)),
        swizzle(static_cast<int>(bits >> 62)) {
    constexpr uint64_t kFields = 0x3fffull | 0x3fffull << 16 | 0x3fffull << 32 | 7ull << 49 | 3ull << 62;
    if (bits & ~kFields) throw std::logic_error("descriptor: bits outside its fields");
    if (swizzle != 1) throw std::logic_error("descriptor: not the 128-byte swizzle");
    if (base_offset != 0) throw std::logic_error("descriptor: base offset of an aligned pattern");
    if (address & 0x380u) throw std::logic_error("descriptor: a pattern of 8 rows begins inside another");
  }

  /// Where element (mn, k) lies; mn is the row of A or the column of B.
  uint32_t k_major(int mn, int k) const {
    const auto row = static_cast<uint32_t>(mn), element = static_cast<uint32_t>(k);
    return swizzle_128(address + row / 8 * stride + row % 8 * 128 + element * 2);
  }
  uint32_t mn_major(int mn, int k) const {
    const auto column = static_cast<uint32_t>(mn), row = static_cast<uint32_t>(k);
    return swizzle_128(address + column / 64 * leading + row / 8 * stride + row % 8 * 128 + column % 64 * 2);
  }
  uint32_t place(bool transposed, int mn, int k) const {
    return transposed ? mn_major(mn, k) : k_major(mn, k);
  }
};

/// Accumulator register r of a lane of a warpgroup's warp; A's registers are mma_a's, with the same rows.
/// PTX ISA, "Register Fragments for wgmma.mma_async.m64nNk16".
constexpr Cell wgmma_d(int warp, int lane, int r) {
  const Cell at = mma_c(lane, r % 4);
  return {16 * warp + at.row, r / 4 * 8 + at.column};
}
constexpr Cell wgmma_a(int warp, int lane, int element) {
  const Cell at = mma_a(lane, element);
  return {16 * warp + at.row, at.column};
}

}  // namespace attn
