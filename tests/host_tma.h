#pragma once
// Tensor maps of TMA on the host: boxes between a tensor and shared memory with the 128-byte swizzle, by the
// words of the PTX ISA ("Tensors", "Swizzling modes") and of cuTensorMapEncodeTiled. What the driver would
// refuse, throws.

#include <cstdint>
#include <cstring>
#include <stdexcept>
#include <string>
#include <vector>

#include "variants/common/tensor_box.h"

namespace attn {

/// 16-byte units of 8 rows of 128 bytes: which of them lies at an address. An involution.
constexpr uint32_t swizzle_128(uint32_t address) { return address ^ (address >> 3 & 0x70u); }

struct HostTensorMap {
  void* base = nullptr;
  int element_bytes = 2;
  std::vector<uint64_t> sizes;    ///< innermost first, elements
  std::vector<uint64_t> strides;  ///< bytes, of all but the innermost
  std::vector<uint32_t> box;      ///< elements
  bool swizzled = true;           ///< by 128 bytes

  void check() const {
    const auto refuse = [](const char* what) { throw std::logic_error(std::string("tensor map: ") + what); };
    const size_t rank = sizes.size();
    if (rank < 1 || rank > 5 || strides.size() + 1 != rank || box.size() != rank) refuse("rank");
    if (reinterpret_cast<uintptr_t>(base) % 16 != 0) refuse("address not a multiple of 16");
    for (const uint64_t size : sizes) {
      if (size < 1 || size > uint64_t{1} << 32) refuse("size not in 1 .. 2^32");
    }
    for (const uint64_t stride : strides) {
      if (stride % 16 != 0 || stride >= uint64_t{1} << 40) refuse("stride no multiple of 16 below 2^40");
    }
    for (const uint32_t extent : box) {
      if (extent < 1 || extent > 256) refuse("box not in 1 .. 256");
    }
    const uint64_t inner = uint64_t{box[0]} * static_cast<uint64_t>(element_bytes);
    if (inner % 16 != 0) refuse("inner box no multiple of 16 bytes");
    if (swizzled && inner > 128) refuse("inner box beyond the swizzle");
  }
  uint32_t box_bytes() const {
    uint32_t bytes = static_cast<uint32_t>(element_bytes);
    for (const uint32_t extent : box) bytes *= extent;
    return bytes;
  }

  /// visit(address in shared memory, element of the tensor or null beyond its bounds), element by element.
  template <class Visit>
  void each(const std::vector<int>& corner, uint32_t shared, const Visit& visit) const {
    if (corner.size() != sizes.size()) throw std::logic_error("TMA: rank of the instruction and of the map");
    if (shared % 128 != 0) throw std::logic_error("TMA: shared memory not at a multiple of 128 bytes");
    const uint32_t count = box_bytes() / static_cast<uint32_t>(element_bytes);
    for (uint32_t k = 0; k < count; ++k) {
      uint32_t rest = k;
      int64_t offset = 0;
      bool inside = true;
      for (size_t axis = 0; axis < sizes.size(); ++axis) {
        const int64_t at = int64_t{corner[axis]} + rest % box[axis];
        rest /= box[axis];
        inside = inside && at >= 0 && static_cast<uint64_t>(at) < sizes[axis];
        offset += at * (axis == 0 ? element_bytes : static_cast<int64_t>(strides[axis - 1]));
      }
      // rows of an inner box below 128 bytes lie at its own width: the kernels have none
      const uint32_t linear = shared + k * static_cast<uint32_t>(element_bytes);
      visit(swizzled ? swizzle_128(linear) : linear, inside ? static_cast<char*>(base) + offset : nullptr);
    }
  }
};

/// Of the numbers that kernels hand to the driver.
inline HostTensorMap host_tensor_map(void* base, const TensorBox& of) {
  HostTensorMap map;
  map.base = base;
  map.sizes.assign(std::begin(of.sizes), std::end(of.sizes));
  map.strides.assign(std::begin(of.strides), std::end(of.strides));
  map.box.assign(std::begin(of.box), std::end(of.box));
  map.check();
  return map;
}

/// `shared` is the first byte of a shared memory whose addresses begin at `first`.
inline void tma_load(const HostTensorMap& map, const std::vector<int>& corner, char* shared, uint32_t first,
                     uint32_t to) {
  map.each(corner, to, [&](uint32_t address, const char* element) {
    char* target = shared + (address - first);
    if (element) std::memcpy(target, element, static_cast<size_t>(map.element_bytes));
    if (!element) std::memset(target, 0, static_cast<size_t>(map.element_bytes));
  });
}
inline void tma_store(const HostTensorMap& map, const std::vector<int>& corner, const char* shared,
                      uint32_t first, uint32_t from) {
  map.each(corner, from, [&](uint32_t address, char* element) {
    if (element) std::memcpy(element, shared + (address - first), static_cast<size_t>(map.element_bytes));
  });
}

}  // namespace attn
