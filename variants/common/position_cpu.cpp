#include "variants/common/position_cpu.h"

#include <algorithm>
#include <cmath>

namespace attn {

RopeTable RopeTable::take(const Problem& p, Workspace& workspace) {
  RopeTable table;
  if (!p.position.rope()) return table;
  table.pairs_ = p.head_dim / 2;
  table.head_dim_ = p.head_dim;
  table.interleaved_ = p.position.kind == PositionKind::rope_interleaved;
  table.first_position_ = std::min(p.offset(), int64_t{0});
  table.positions_ = std::max(p.seq_q, p.seq_kv);
  table.cosine_ = workspace.take<float>("rope cosine", table.positions_ * table.pairs_);
  table.sine_ = workspace.take<float>("rope sine", table.positions_ * table.pairs_);
  return table;
}

void RopeTable::fill(const Problem& p) const {
  for (int64_t t = 0; t < positions_; ++t) {
    for (int64_t m = 0; m < pairs_; ++m) {
      const double angle = rope_angle(p.position.base, head_dim_, m, first_position_ + t);
      cosine_[t * pairs_ + m] = static_cast<float>(std::cos(angle));
      sine_[t * pairs_ + m] = static_cast<float>(std::sin(angle));
    }
  }
}

void RopeTable::rotate(const float* row, float* out, int64_t position, bool inverse) const {
  const float *cosine = this->cosine(position), *sine = this->sine(position);
  const float sign = inverse ? -1.0f : 1.0f;
  for (int64_t m = 0; m < pairs_; ++m) {
    const ChannelPair channel = rope_channels(interleaved_, head_dim_, m);
    const float x = row[channel.first], y = row[channel.second], s = sign * sine[m];
    out[channel.first] = x * cosine[m] - y * s;
    out[channel.second] = x * s + y * cosine[m];
  }
  if (head_dim_ % 2 == 1) out[head_dim_ - 1] = row[head_dim_ - 1];
}

ToeplitzBias ToeplitzBias::take(const Problem& p, Workspace& workspace) {
  ToeplitzBias bias;
  if (!p.position.toeplitz()) return bias;
  bias.width_ = std::max(p.seq_q + p.seq_kv - 1, int64_t{0});
  bias.zero_ = p.seq_kv - 1;
  bias.rows_ = workspace.take<float>("bias by distance", p.heads_q * bias.padded_width());
  if (p.position.t5()) bias.buckets_ = workspace.take<int32_t>("t5 buckets", bias.width_);
  return bias;
}

void ToeplitzBias::prepare(const Problem& p) const {
  if (!buckets_) return;
  // Element e is i - j + seq_kv - 1, which is the distance j - (i + o) = seq_q - 1 - e.
  for (int64_t e = 0; e < width_; ++e)
    buckets_[e] = static_cast<int32_t>(p.position.t5_bucket(p.seq_q - 1 - e));
}

void ToeplitzBias::fill(const Problem& p, const Tables& tables, double factor, int threads) const {
  if (empty()) return;
#pragma omp parallel for num_threads(threads) schedule(static)
  for (int64_t head = 0; head < p.heads_q; ++head) {
    float* row = rows_ + head * padded_width();
    std::fill_n(row + width_, kPadding, 0.0f);
    const double slope = p.position.t5() ? 0 : alibi_slope(p.heads_q, head);
    for (int64_t e = 0; e < width_; ++e) {
      const double bias = buckets_ ? static_cast<double>(tables.t5_bias[buckets_[e] * p.heads_q + head])
                                   : -slope * static_cast<double>(std::abs(p.seq_q - 1 - e));
      row[e] = static_cast<float>(factor * bias);
    }
  }
}

void ToeplitzBias::add_table_gradient(const Problem& p, int64_t head, const float* sums,
                                      float* d_t5_bias) const {
  for (int64_t e = 0; e < width_; ++e) d_t5_bias[buckets_[e] * p.heads_q + head] += sums[e];
}

}  // namespace attn
