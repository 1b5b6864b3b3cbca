#pragma once
// Borrowed tensors: a pointer and strides in elements. The last axis is contiguous.

#include <cstdint>

namespace attn {

template <class Void>
struct BasicTensor {  // [batch, seq, head, head_dim]
  Void* data = nullptr;
  int64_t batch_stride = 0;
  int64_t seq_stride = 0;
  int64_t head_stride = 0;

  /// Elements from `data` to the row (b, i, h).
  int64_t offset(int64_t b, int64_t i, int64_t h) const {
    return b * batch_stride + i * seq_stride + h * head_stride;
  }
  /// The row (b, i, h) as elements of type T.
  template <class T>
  auto row(int64_t b, int64_t i, int64_t h) const;
};

using Tensor = BasicTensor<void>;
using ConstTensor = BasicTensor<const void>;

template <>
template <class T>
auto BasicTensor<void>::row(int64_t b, int64_t i, int64_t h) const {
  return static_cast<T*>(data) + offset(b, i, h);
}
template <>
template <class T>
auto BasicTensor<const void>::row(int64_t b, int64_t i, int64_t h) const {
  return static_cast<const T*>(data) + offset(b, i, h);
}

/// Contiguous [batch, seq, head, width].
template <class Void>
BasicTensor<Void> contiguous(Void* data, int64_t seq, int64_t heads, int64_t width) {
  return {data, seq * heads * width, heads * width, width};
}

}  // namespace attn
