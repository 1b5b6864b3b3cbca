#pragma once
// Borrowed tensors: a pointer and strides in elements. The last axis is contiguous.

#include <cstdint>
#include <type_traits>

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
  auto row(int64_t b, int64_t i, int64_t h) const {
    using Element = std::conditional_t<std::is_const_v<Void>, const T, T>;
    return static_cast<Element*>(data) + offset(b, i, h);
  }
};

using Tensor = BasicTensor<void>;
using ConstTensor = BasicTensor<const void>;

/// Contiguous [batch, seq, head, width].
template <class Void>
BasicTensor<Void> contiguous(Void* data, int64_t seq, int64_t heads, int64_t width) {
  return {data, seq * heads * width, heads * width, width};
}

}  // namespace attn
