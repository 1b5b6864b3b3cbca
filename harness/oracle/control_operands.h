#pragma once
// What the control kernel reads and writes: float32 copies of tensors of any type, rotated for RoPE, and
// planted errors in the making of these copies.

#include <vector>

#include "harness/oracle/control_kernel.h"

namespace attn {

/// Contiguous float32 [batch, seq, heads, width].
class FloatTensor {
 public:
  FloatTensor(int64_t batch, int64_t seq, int64_t heads, int64_t row_width)
      : width(row_width),
        values_(static_cast<size_t>(batch * seq * heads * row_width)),
        seq_(seq),
        heads_(heads) {}

  float* row(int64_t b, int64_t i, int64_t h) {
    return values_.data() + ((b * seq_ + i) * heads_ + h) * width;
  }
  const float* row(int64_t b, int64_t i, int64_t h) const {
    return const_cast<FloatTensor*>(this)->row(b, i, h);
  }
  void read(Dtype dtype, ConstTensor from);
  void write(Dtype dtype, Tensor to) const;
  /// Rows turned by their position `first + i`; `direction` -1 turns back.
  void rotate(const Problem& problem, Mutation mutation, int64_t first, int direction);

  const int64_t width;

 private:
  template <class Visit>
  void for_each_row(Visit visit) const;

  std::vector<float> values_;
  int64_t seq_, heads_;
};

/// q, k, v of a problem as the kernel multiplies them.
struct ControlOperands {
  ControlOperands(const Problem& problem, Mutation mutation, ConstTensor q, ConstTensor k, ConstTensor v);
  FloatTensor q, k, v;
};

/// Position of query 0 in RoPE.
int64_t rope_origin(const Problem& problem, Mutation mutation);

}  // namespace attn
