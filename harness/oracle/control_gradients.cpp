#include "harness/oracle/control_gradients.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attn {
namespace {

using M = Mutation;

class Gradients {
 public:
  Gradients(const ControlForward& forward, const Backward& args)
      : forward_(forward),
        p_(forward.p),
        m_(forward.m),
        args_(args),
        o_(p_.batch, p_.seq_q, p_.heads_q, p_.value_dim),
        d_o_(o_),
        d_q_(p_.batch, p_.seq_q, p_.heads_q, p_.head_dim),
        d_k_(p_.batch, p_.seq_kv, p_.heads_kv, p_.head_dim),
        d_v_(p_.batch, p_.seq_kv, p_.heads_kv, p_.value_dim) {
    o_.read(p_.dtype, args.o);
    d_o_.read(p_.dtype, args.d_o);
    const int64_t rows = p_.position.shaw_rows();
    if (args.d_tables.shaw_key) std::fill_n(args.d_tables.shaw_key, rows * p_.head_dim, 0.0f);
    if (args.d_tables.shaw_value) std::fill_n(args.d_tables.shaw_value, rows * p_.value_dim, 0.0f);
    if (args.d_tables.t5_bias) std::fill_n(args.d_tables.t5_bias, p_.position.buckets * p_.heads_q, 0.0f);
  }

  void run() {
    for (int64_t b = 0; b < p_.batch; ++b) {
      for (int64_t h = 0; h < p_.heads_q; ++h) {
        for (int64_t i = 0; i < p_.seq_q; ++i) add_row(b, h, i);
      }
    }
    if (p_.position.rope() && m_ != M::rope_gradient_not_rotated_back) {
      d_q_.rotate(p_, m_, rope_origin(p_, m_), -1);
      d_k_.rotate(p_, m_, 0, -1);
    }
    d_q_.write(p_.dtype, args_.d_q);
    d_k_.write(p_.dtype, args_.d_k);
    d_v_.write(p_.dtype, args_.d_v);
  }

 private:
  void add_row(int64_t b, int64_t h, int64_t i) {
    const float *d_o = d_o_.row(b, i, h), *o = o_.row(b, i, h);
    const float lse = args_.lse[(b * p_.heads_q + h) * p_.seq_q + i];
    if (lse == -std::numeric_limits<float>::infinity()) return;
    float delta = 0;
    for (int64_t c = 0; c < p_.value_dim && m_ != M::gradient_without_delta; ++c) delta += d_o[c] * o[c];
    for (int64_t j = 0; j < p_.seq_kv; ++j) {
      if (forward_.visible(b, i, j)) add_pair(b, h, i, j, lse, delta);
    }
  }

  void add_pair(int64_t b, int64_t h, int64_t i, int64_t j, float lse, float delta) {
    const ControlForward::Score score = forward_.score(b, h, i, j);
    const float weight = std::exp(score.biased - lse);
    const float *d_o = d_o_.row(b, i, h), *v = forward_.value(b, j, h);
    const float *relative_key = forward_.shaw_key(i, j), *relative_value = forward_.shaw_value(i, j);
    const int64_t row = forward_.shaw_row(i, j), g = h / p_.group();
    const bool only_last = m_ == M::table_gradient_of_one_head && h != p_.heads_q - 1;
    float* d_v = d_v_.row(b, j, g);
    float d_weight = 0;
    for (int64_t c = 0; c < p_.value_dim; ++c) {
      d_weight += d_o[c] * (relative_value ? v[c] + relative_value[c] : v[c]);
      d_v[c] += (m_ == M::d_v_of_unscaled_weights ? std::exp(score.biased) : weight) * d_o[c];
      if (relative_value && !only_last) args_.d_tables.shaw_value[row * p_.value_dim + c] += weight * d_o[c];
    }
    const float d_biased = weight * (d_weight - delta);
    if (p_.position.t5()) args_.d_tables.t5_bias[forward_.t5_bucket(i, j) * p_.heads_q + h] += d_biased;
    const auto cap = static_cast<float>(p_.softcap);
    float d_score = d_biased * (m_ == M::gradient_without_tau ? 1 : forward_.tau);
    if (cap != 0 && m_ != M::softcap_slope_ignored)
      d_score *= 1 - (score.capped / cap) * (score.capped / cap);
    const float *q = forward_.query(b, i, h), *k = forward_.key(b, j, h);
    float *d_q = d_q_.row(b, i, h), *d_k = d_k_.row(b, j, g);
    const bool last_of_group = (h + 1) % p_.group() == 0;
    const bool adds_relative = relative_key && m_ != M::d_q_without_shaw_key;
    for (int64_t c = 0; c < p_.head_dim; ++c) {
      d_q[c] += d_score * (adds_relative ? k[c] + relative_key[c] : k[c]);
      if (m_ != M::d_k_of_one_head_of_group || last_of_group) d_k[c] += d_score * q[c];
      if (relative_key && !only_last) args_.d_tables.shaw_key[row * p_.head_dim + c] += d_score * q[c];
    }
  }

  const ControlForward& forward_;
  const Problem& p_;
  Mutation m_;
  const Backward& args_;
  FloatTensor o_, d_o_, d_q_, d_k_, d_v_;
};

}  // namespace

void control_backward(const ControlForward& forward, const Backward& args) { Gradients(forward, args).run(); }

}  // namespace attn
