#include "harness/oracle/control_operands.h"

#include <cmath>

namespace attn {

template <class Visit>
void FloatTensor::for_each_row(Visit visit) const {
  const int64_t rows = width == 0 ? 0 : static_cast<int64_t>(values_.size()) / width;
  for (int64_t r = 0; r < rows; ++r) visit(r / heads_ / seq_, r / heads_ % seq_, r % heads_);
}

void FloatTensor::read(Dtype dtype, ConstTensor from) {
  for_each_row([&](int64_t b, int64_t i, int64_t h) {
    for (int64_t c = 0; c < width; ++c) row(b, i, h)[c] = load(dtype, from.data, from.offset(b, i, h) + c);
  });
}

void FloatTensor::write(Dtype dtype, Tensor to) const {
  for_each_row([&](int64_t b, int64_t i, int64_t h) {
    for (int64_t c = 0; c < width; ++c) store(dtype, to.data, to.offset(b, i, h) + c, row(b, i, h)[c]);
  });
}

void FloatTensor::rotate(const Problem& p, Mutation m, int64_t first, int direction) {
  const bool written = p.position.kind == PositionKind::rope_interleaved;
  const bool interleaved = written != (m == Mutation::rope_pairs_exchanged);
  const double sign = m == Mutation::relative_sign_wrong ? -direction : direction;
  for_each_row([&](int64_t b, int64_t i, int64_t h) {
    float* x = row(b, i, h);
    for (int64_t pair = 0; pair < width / 2; ++pair) {
      const double angle = sign * rope_angle(p.position.base, width, pair, first + i);
      const auto [a, z] = rope_channels(interleaved, width, pair);
      const double cosine = std::cos(angle), sine = std::sin(angle), x_a = x[a], x_z = x[z];
      x[a] = static_cast<float>(x_a * cosine - x_z * sine);
      x[z] = static_cast<float>(x_z * cosine + x_a * sine);
    }
  });
}

ControlOperands::ControlOperands(const Problem& p, Mutation m, ConstTensor q_in, ConstTensor k_in,
                                 ConstTensor v_in)
    : q(p.batch, p.seq_q, p.heads_q, p.head_dim),
      k(p.batch, p.seq_kv, p.heads_kv, p.head_dim),
      v(p.batch, p.seq_kv, p.heads_kv, p.value_dim) {
  q.read(p.dtype, q_in);
  k.read(p.dtype, k_in);
  v.read(p.dtype, v_in);
  if (!p.position.rope()) return;
  q.rotate(p, m, rope_origin(p, m), 1);
  k.rotate(p, m, 0, 1);
}

int64_t rope_origin(const Problem& p, Mutation m) {
  return m == Mutation::rope_query_without_offset ? 0 : p.offset();
}

}  // namespace attn
