#include "harness/oracle/gradient_properties.h"

#include <cmath>

namespace attn {
namespace {

struct Sum {
  double value = 0;
  double bound = 0;

  void add(double factor, const std::vector<float>& values, const std::vector<double>& bounds,
           int64_t element) {
    const auto e = static_cast<size_t>(element);
    value += factor * values[e];
    bound += std::abs(factor) * bounds[e];
  }
};

/// Visits every (batch entry, key/value head).
template <class Visit>
void for_each_unit(const Problem& p, Visit visit) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t g = 0; g < p.heads_kv; ++g) visit(b, g);
  }
}

int64_t key_element(const Problem& p, int64_t b, int64_t j, int64_t g, int64_t c, int64_t width) {
  return ((b * p.seq_kv + j) * p.heads_kv + g) * width + c;
}
int64_t query_element(const Problem& p, int64_t b, int64_t i, int64_t h, int64_t c, int64_t width) {
  return ((b * p.seq_q + i) * p.heads_q + h) * width + c;
}

}  // namespace

void value_gradients_add_up(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  const Measured run = lab.run(p, in);
  for_each_unit(p, [&](int64_t b, int64_t g) {
    for (int64_t c = 0; c < p.value_dim; ++c) {
      Sum d_v;
      for (int64_t j = 0; j < p.seq_kv; ++j) {
        d_v.add(1, run.out.d_v, run.bound("d_v"), key_element(p, b, j, g, c, p.value_dim));
      }
      double d_o = 0;
      for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h) {
        for (int64_t i = 0; i < p.seq_q; ++i) {
          d_o += in.d_o[static_cast<size_t>(query_element(p, b, i, h, c, p.value_dim))];
        }
      }
      expect_near("sum of d_v", c, d_v.value, d_o, d_v.bound);
    }
  });
}

void key_gradients_vanish(const Laboratory& lab, const Problem& p) {
  const Measured run = lab.run(p, lab.inputs(p));
  for_each_unit(p, [&](int64_t b, int64_t g) {
    for (int64_t c = 0; c < p.head_dim; ++c) {
      Sum d_k;
      for (int64_t j = 0; j < p.seq_kv; ++j) {
        d_k.add(1, run.out.d_k, run.bound("d_k"), key_element(p, b, j, g, c, p.head_dim));
      }
      expect_near("sum of d_k", c, d_k.value, 0, d_k.bound);
    }
  });
}

void query_and_key_gradients_balance(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  const Measured run = lab.run(p, in);
  for_each_unit(p, [&](int64_t b, int64_t g) {
    Sum queries, keys;
    for (int64_t c = 0; c < p.head_dim; ++c) {
      for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h) {
        for (int64_t i = 0; i < p.seq_q; ++i) {
          const int64_t e = query_element(p, b, i, h, c, p.head_dim);
          queries.add(in.q[static_cast<size_t>(e)], run.out.d_q, run.bound("d_q"), e);
        }
      }
      for (int64_t j = 0; j < p.seq_kv; ++j) {
        const int64_t e = key_element(p, b, j, g, c, p.head_dim);
        keys.add(in.k[static_cast<size_t>(e)], run.out.d_k, run.bound("d_k"), e);
      }
    }
    expect_near("sum of q.dQ", g, queries.value, keys.value, queries.bound + keys.bound);
  });
}

void value_scale_scales_gradients(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Inputs<float> scaled = in;
  for (float& value : scaled.v) value *= 3;
  const Measured a = lab.run(p, in), b = lab.run(p, scaled);
  expect_same("d_q", b.out.d_q, b.bound("d_q"), a.out.d_q, a.bound("d_q"), same_element, 3);
  expect_same("d_k", b.out.d_k, b.bound("d_k"), a.out.d_k, a.bound("d_k"), same_element, 3);
  expect_same("d_v", b.out.d_v, b.bound("d_v"), a.out.d_v, a.bound("d_v"), same_element);
}

void bias_gradients_vanish(const Laboratory& lab, const Problem& p) {
  const Measured run = lab.run(p, lab.inputs(p));
  for (int64_t h = 0; h < p.heads_q; ++h) {
    Sum sum;
    for (int64_t bucket = 0; bucket < p.position.buckets; ++bucket) {
      sum.add(1, run.out.d_t5_bias, run.bound("d_t5_bias"), bucket * p.heads_q + h);
    }
    expect_near("sum of d_t5_bias", h, sum.value, 0, sum.bound);
  }
}

}  // namespace attn
