#pragma once
// What TMA is told of a tensor and of the boxes it copies, in numbers; tensor_map.h hands them to the driver.

#include "harness/problem/tensor.h"

namespace attn {

/// [batch, seq, heads, width]
struct TensorShape {
  int64_t batch, seq, heads, width;
};

/// Whether TMA can copy rows of this tensor: 16-bit numbers, the rows' addresses multiples of 16 bytes.
template <class Void>
bool tma_accepts(const BasicTensor<Void>& tensor, const TensorShape& shape) {
  constexpr int64_t kMostBytes = int64_t{1} << 40;
  if (reinterpret_cast<uintptr_t>(tensor.data) % 16 != 0) return false;
  const auto accepted = [](int64_t stride, int64_t count) {
    return count == 1 || (stride > 0 && stride % 8 == 0 && 2 * stride < kMostBytes);
  };
  return accepted(tensor.seq_stride, shape.seq) && accepted(tensor.head_stride, shape.heads) &&
         accepted(tensor.batch_stride, shape.batch);
}

/// What the driver makes of the numbers below (tensor_map.h); only TMA looks into it.
struct alignas(64) TensorMap {
  uint64_t opaque[16];
};

/// Boxes of rows of some neighbouring heads and 64 channels; in shared memory the heads of a row lie
/// together. Axes: channel, head, row, batch entry.
struct TensorBox {
  static constexpr int kAxes = 4;
  uint64_t sizes[kAxes];        ///< of the tensor, in elements
  uint64_t strides[kAxes - 1];  ///< of all axes but the first, in bytes
  uint32_t box[kAxes];          ///< elements copied at a time
};
template <class Void>
TensorBox tensor_box(const BasicTensor<Void>& tensor, const TensorShape& shape, int rows, int heads = 1) {
  const auto size = [](int64_t count) { return static_cast<uint64_t>(count); };
  const auto bytes = [](int64_t stride, int64_t count) {  // of one row, the stride means nothing
    return count == 1 ? uint64_t{16} : static_cast<uint64_t>(2 * stride);
  };
  return {{size(shape.width), size(shape.heads), size(shape.seq), size(shape.batch)},
          {bytes(tensor.head_stride, shape.heads), bytes(tensor.seq_stride, shape.seq),
           bytes(tensor.batch_stride, shape.batch)},
          {64, static_cast<uint32_t>(heads), static_cast<uint32_t>(rows), 1}};
}

}  // namespace attn
