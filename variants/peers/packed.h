#pragma once
// Operands as libraries take them that know no strides.

#include <algorithm>
#include <vector>

#include "variants/peers/peer.h"

namespace attn {

/// [batch, seq, head, width] without gaps, float32: the tensor itself, or a copy.
class Packed {
 public:
  template <class Void>
  Packed(const BasicTensor<Void>& tensor, int64_t batch, int64_t seq, int64_t heads, int64_t width)
      : shape_{batch, seq, heads * width},
        heads_(heads),
        width_(width),
        tensor_{tensor.data, tensor.batch_stride, tensor.seq_stride, tensor.head_stride} {
    const bool plain = tensor.head_stride == width_ && tensor.seq_stride == shape_[2] &&
                       tensor.batch_stride == seq * shape_[2];
    if (!plain) copy_.resize(elements());
  }

  void gather() {
    for_each_row([this](const float* row, float* packed) { std::copy_n(row, width_, packed); });
  }
  /// Only of a tensor that may be written.
  void scatter() {
    for_each_row([this](const float* row, const float* packed) {
      std::copy_n(packed, width_, const_cast<float*>(row));
    });
  }
  const int64_t* shape() const { return shape_; }  ///< [batch, seq, heads * width]
  size_t elements() const { return static_cast<size_t>(shape_[0] * shape_[1] * shape_[2]); }
  float* data() { return copy_.empty() ? const_cast<float*>(tensor_.row<float>(0, 0, 0)) : copy_.data(); }

 private:
  template <class Visit>
  void for_each_row(Visit visit) {
    if (copy_.empty()) return;
    float* packed = copy_.data();
    for (int64_t b = 0; b < shape_[0]; ++b) {
      for (int64_t i = 0; i < shape_[1]; ++i) {
        for (int64_t h = 0; h < heads_; ++h, packed += width_) visit(tensor_.row<float>(b, i, h), packed);
      }
    }
  }

  int64_t shape_[3];
  int64_t heads_, width_;
  ConstTensor tensor_;
  std::vector<float> copy_;
};

/// The operands of a forward: inputs gathered at construction, O to be scattered after the call.
struct PackedForward {
  PackedForward(const PeerProblem& p, const Forward& args)
      : q(args.q, p.batch, p.seq_q, p.heads_q, p.head_dim),
        k(args.k, p.batch, p.seq_kv, p.heads_kv, p.head_dim),
        v(args.v, p.batch, p.seq_kv, p.heads_kv, p.value_dim),
        o(args.o, p.batch, p.seq_q, p.heads_q, p.value_dim) {
    for (Packed* input : {&q, &k, &v}) input->gather();
  }

  Packed q, k, v, o;
};

}  // namespace attn
