#include "harness/oracle/properties.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "harness/oracle/gradient_properties.h"
#include "harness/oracle/laboratory.h"

namespace attn {
namespace {

/// A fixed permutation of [0, count).
std::vector<int64_t> shuffled(int64_t count) {
  std::vector<int64_t> order(static_cast<size_t>(count));
  std::iota(order.begin(), order.end(), int64_t{0});
  std::reverse(order.begin(), order.end());
  std::rotate(order.begin(), order.begin() + count / 3, order.end());
  return order;
}

void rows_sum_to_one(const Laboratory& lab, const Problem& p) {
  Inputs<float> in = lab.inputs(p);
  std::fill(in.v.begin(), in.v.end(), 1.0f);
  const Measured run = lab.run(p, in);
  for (size_t e = 0; e < run.out.o.size(); ++e) {
    const bool empty = run.bound("o")[e] == 0;
    expect_near("o", static_cast<int64_t>(e), run.out.o[e], empty ? 0 : 1, run.bound("o")[e]);
  }
}

void equal_values_come_back(const Laboratory& lab, const Problem& p) {
  Inputs<float> in = lab.inputs(p);
  const auto width = static_cast<size_t>(p.value_dim);
  for (size_t e = width; e < in.v.size(); ++e) in.v[e] = in.v[e % width];
  const Measured run = lab.run(p, in);
  for (size_t e = 0; e < run.out.o.size(); ++e) {
    expect_near("o", static_cast<int64_t>(e), run.out.o[e], in.v[e % width], run.bound("o")[e]);
  }
}

void output_within_values(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  const Measured run = lab.run(p, in);
  const auto [low, high] = std::minmax_element(in.v.begin(), in.v.end());
  for (size_t e = 0; e < run.out.o.size(); ++e) {
    const double nearest = std::clamp(run.out.o[e], *low, *high);
    expect_near("o", static_cast<int64_t>(e), run.out.o[e], nearest, run.bound("o")[e]);
  }
}

void key_order_is_free(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Inputs<float> permuted = in;
  const auto order = shuffled(p.seq_kv);
  permuted.k = gather_rows(in.k, p.batch, p.seq_kv, p.heads_kv, p.head_dim, order);
  permuted.v = gather_rows(in.v, p.batch, p.seq_kv, p.heads_kv, p.value_dim, order);
  expect_same_forward(lab.run(p, in), lab.run(p, permuted));
}

void query_order_is_free(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Inputs<float> permuted = in;
  const auto order = shuffled(p.seq_q);
  permuted.q = gather_rows(in.q, p.batch, p.seq_q, p.heads_q, p.head_dim, order);
  const Measured plain = lab.run(p, in), moved = lab.run(p, permuted);
  const int64_t row = p.heads_q * p.value_dim;
  expect_same("o", moved.out.o, moved.bound("o"), plain.out.o, plain.bound("o"), [&](int64_t e) {
    const int64_t b = e / row / p.seq_q, i = e / row % p.seq_q;
    return (b * p.seq_q + order[static_cast<size_t>(i)]) * row + e % row;
  });
}

void key_shift_moves_only_lse(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Inputs<float> shifted = in;
  const auto shift = [&](int64_t c) { return 0.25f * static_cast<float>(c % 5 - 2); };
  for (size_t e = 0; e < shifted.k.size(); ++e) shifted.k[e] += shift(static_cast<int64_t>(e) % p.head_dim);
  const Measured plain = lab.run(p, in), moved = lab.run(p, shifted);
  expect_same("o", moved.out.o, moved.bound("o"), plain.out.o, plain.bound("o"), same_element);
  for (int64_t row = 0; row < static_cast<int64_t>(plain.out.lse.size()); ++row) {
    const int64_t b = row / p.seq_q / p.heads_q, h = row / p.seq_q % p.heads_q, i = row % p.seq_q;
    double sum = 0;
    for (int64_t c = 0; c < p.head_dim; ++c) {
      sum += shift(c) * in.q[static_cast<size_t>(((b * p.seq_q + i) * p.heads_q + h) * p.head_dim + c)];
    }
    const auto e = static_cast<size_t>(row);
    expect_near("lse", row, moved.out.lse[e], plain.out.lse[e] + p.softmax_scale() * sum,
                plain.bound("lse")[e] + moved.bound("lse")[e]);
  }
}

void causal_prefix_ignores_the_future(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  const int64_t kept = p.seq_kv / 2;  // keys of the prefix; queries before kept - offset see no other
  const Measured plain = lab.run(p, in);
  Inputs<float> changed = in;
  const auto replace = [&](std::vector<float>& tensor, int64_t width, float value) {
    const int64_t row = p.heads_kv * width;
    for (int64_t e = 0; e < static_cast<int64_t>(tensor.size()); ++e) {
      if (e / row % p.seq_kv >= kept) tensor[static_cast<size_t>(e)] = value;
    }
  };
  const int64_t row = p.heads_q * p.value_dim;
  for (float value : {7.0f, std::numeric_limits<float>::quiet_NaN()}) {
    if (std::isnan(value) && !lab.hides_nan()) continue;
    replace(changed.k, p.head_dim, value);
    replace(changed.v, p.value_dim, value);
    const Measured other = lab.run(p, changed);
    expect_same("o", other.out.o, plain.bound("o"), plain.out.o, plain.bound("o"),
                [&](int64_t e) { return e / row % p.seq_q < kept - p.offset() ? e : int64_t{-1}; });
  }
}

void wide_window_is_dense(const Laboratory& lab, const Problem& p) {
  Problem wide = p;
  wide.mask = Mask::parse(fmt::format("window:{0}:{0}", p.seq_kv + p.seq_q));
  const Inputs<float> in = lab.inputs(p);
  expect_same_forward(lab.run(p, in), lab.run(wide, in));
}

/// Key/value heads repeated for every query head.
std::vector<float> repeat_heads(const std::vector<float>& tensor, int64_t heads, int64_t group,
                                int64_t width) {
  std::vector<float> repeated;
  for (int64_t row = 0; row < static_cast<int64_t>(tensor.size()) / width; row += heads) {
    for (int64_t h = 0; h < heads * group; ++h) {
      const auto begin = tensor.begin() + (row + h / group) * width;
      repeated.insert(repeated.end(), begin, begin + width);
    }
  }
  return repeated;
}

void grouped_heads_equal_repeated_heads(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Problem full = p;
  full.heads_kv = p.heads_q;
  Inputs<float> repeated = in;
  repeated.k = repeat_heads(in.k, p.heads_kv, p.group(), p.head_dim);
  repeated.v = repeat_heads(in.v, p.heads_kv, p.group(), p.value_dim);
  expect_same_forward(lab.run(p, in), lab.run(full, repeated));
}

void value_scale_scales_output(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Inputs<float> scaled = in;
  for (float& value : scaled.v) value *= 3;
  const Measured a = lab.run(p, in), b = lab.run(p, scaled);
  expect_same("o", b.out.o, b.bound("o"), a.out.o, a.bound("o"), same_element, 3);
}

void opposite_scales_cancel(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Inputs<float> scaled = in;
  for (float& value : scaled.q) value *= 4;
  for (float& value : scaled.k) value /= 4;
  expect_same_forward(lab.run(p, in), lab.run(p, scaled));
}

void duplicated_keys_add_ln_2(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  Problem twice = p;
  twice.seq_kv = 2 * p.seq_kv;
  std::vector<int64_t> order;
  for (int64_t j = 0; j < twice.seq_kv; ++j) order.push_back(j % p.seq_kv);
  Inputs<float> doubled = in;
  doubled.k = gather_rows(in.k, p.batch, p.seq_kv, p.heads_kv, p.head_dim, order);
  doubled.v = gather_rows(in.v, p.batch, p.seq_kv, p.heads_kv, p.value_dim, order);
  const Measured a = lab.run(p, in), b = lab.run(twice, doubled);
  expect_same("o", b.out.o, b.bound("o"), a.out.o, a.bound("o"), same_element);
  for (size_t e = 0; e < a.out.lse.size(); ++e) {
    expect_near("lse", static_cast<int64_t>(e), b.out.lse[e], a.out.lse[e] + std::log(2.0),
                a.bound("lse")[e] + b.bound("lse")[e]);
  }
}

void padding_equals_shorter(const Laboratory& lab, const Problem& p) {
  const int64_t kept = p.seq_kv / 3 + 1;
  Problem padded = p, shorter = p;
  padded.mask = Mask::parse(fmt::format("padding:{}", kept));
  shorter.seq_kv = kept;
  Inputs<float> in = lab.inputs(p);
  std::vector<int64_t> order(static_cast<size_t>(kept));
  std::iota(order.begin(), order.end(), int64_t{0});
  Inputs<float> cut = in;
  cut.k = gather_rows(in.k, p.batch, p.seq_kv, p.heads_kv, p.head_dim, order);
  cut.v = gather_rows(in.v, p.batch, p.seq_kv, p.heads_kv, p.value_dim, order);
  expect_same_forward(lab.run(padded, in), lab.run(shorter, cut));
}

void batch_equals_separate_runs(const Laboratory& lab, const Problem& p) {
  const Inputs<float> in = lab.inputs(p);
  const Measured all = lab.run(p, in);
  Problem single = p;
  single.batch = 1;
  const auto slice = [&](const std::vector<float>& tensor, int64_t b) {
    const auto size = static_cast<int64_t>(tensor.size()) / p.batch;
    return std::vector<float>(tensor.begin() + b * size, tensor.begin() + (b + 1) * size);
  };
  for (int64_t b = 0; b < p.batch; ++b) {
    Inputs<float> part = in;
    part.q = slice(in.q, b);
    part.k = slice(in.k, b);
    part.v = slice(in.v, b);
    const Measured one = lab.run(single, part);
    const auto shift = [&](const std::vector<float>& tensor) {
      const auto size = static_cast<int64_t>(tensor.size());
      return [=](int64_t e) { return b * size + e; };
    };
    expect_same("o", one.out.o, one.bound("o"), all.out.o, all.bound("o"), shift(one.out.o));
    expect_same("lse", one.out.lse, one.bound("lse"), all.out.lse, all.bound("lse"), shift(one.out.lse));
  }
}

void zero_tables_are_no_position(const Laboratory& lab, const Problem& p) {
  Problem plain = p;
  plain.position = {};
  Inputs<float> in = lab.inputs(p);
  for (auto* table : {&in.shaw_key, &in.shaw_value, &in.t5_bias})
    std::fill(table->begin(), table->end(), 0.0f);
  Inputs<float> bare = in;
  bare.shaw_key.clear();
  bare.shaw_value.clear();
  bare.t5_bias.clear();
  expect_same_forward(lab.run(p, in), lab.run(plain, bare));
}

struct Property {
  const char* name;
  void (*holds)(const Laboratory&, const Problem&);
  std::vector<const char*> problems;
};

const std::vector<Property>& properties() {
  static const std::vector<Property> all = {
      {"rows of P sum to one",
       rows_sum_to_one,
       {"hq=2,nq=65,d=16", "hq=2,nq=40,nk=70,d=24,mask=causal",
        "hq=2,nq=70,nk=40,d=24,mask=causal+window:9:*", "hq=2,nq=65,d=16,pos=shaw-keys:4",
        "hq=2,nq=65,d=16,pos=alibi", "hq=2,nq=65,d=16,pos=rope:10000,softcap=4"}},
      {"equal values come back",
       equal_values_come_back,
       {"hq=2,nq=65,d=16,dv=24", "hq=2,nq=65,d=16,mask=causal"}},
      {"output within the range of values",
       output_within_values,
       {"hq=2,nq=97,d=16", "hq=2,nq=65,d=8,mask=causal"}},
      {"order of keys is free",
       key_order_is_free,
       {"hq=2,nq=65,nk=97,d=16", "b=2,hq=4,hk=2,nq=33,d=24,softcap=5"}},
      {"order of queries is free",
       query_order_is_free,
       {"hq=2,nq=65,nk=97,d=16", "b=2,hq=4,hk=2,nq=33,d=24"}},
      {"a vector added to every key moves the LSE alone",
       key_shift_moves_only_lse,
       {"hq=2,nq=65,d=16", "hq=4,hk=2,nq=40,nk=65,d=24,mask=causal", "hq=2,nq=40,d=16,pos=alibi"}},
      {"a causal prefix ignores the future",
       causal_prefix_ignores_the_future,
       {"hq=2,nq=97,d=16,mask=causal", "hq=2,nq=65,nk=130,d=16,mask=causal",
        "hq=2,nq=65,d=16,mask=window:20:0", "hq=2,nq=65,d=16,mask=causal,pos=shaw:4",
        "hq=2,nq=130,d=40,mask=causal,pos=alibi"}},
      {"a window of everything is dense",
       wide_window_is_dense,
       {"hq=2,nq=97,d=16", "hq=2,nq=33,nk=65,d=16", "hq=2,nq=65,nk=33,d=16"}},
      {"grouped heads equal repeated heads",
       grouped_heads_equal_repeated_heads,
       {"hq=4,hk=2,nq=65,d=16", "hq=4,hk=1,nq=40,d=16,mask=causal", "hq=4,hk=4,nq=40,d=16"}},
      {"scaled values scale the output",
       value_scale_scales_output,
       {"hq=2,nq=65,d=16", "hq=2,nq=65,d=16,mask=causal"}},
      {"opposite scales of queries and keys cancel", opposite_scales_cancel, {"hq=2,nq=65,d=16"}},
      {"duplicated keys add ln 2 to the LSE",
       duplicated_keys_add_ln_2,
       {"hq=2,nq=65,d=16", "hq=4,hk=2,nq=20,d=16"}},
      {"padding equals the shorter problem",
       padding_equals_shorter,
       {"hq=2,nq=65,nk=97,d=16", "b=2,hq=4,hk=2,nq=33,d=24"}},
      {"a batch equals separate runs",
       batch_equals_separate_runs,
       {"b=3,hq=2,nq=65,d=16", "b=2,hq=4,hk=2,nq=33,d=24,mask=causal"}},
      {"zero tables are no position",
       zero_tables_are_no_position,
       {"hq=2,nq=65,d=16,pos=shaw:4", "hq=2,nq=65,d=16,pos=t5:32:128",
        "hq=2,nq=65,d=16,pos=shaw-keys:2,mask=causal"}},
      {"gradients of values add up to those of outputs (M5)",
       value_gradients_add_up,
       {"hq=2,nq=65,d=16,pass=bwd", "b=2,hq=4,hk=2,nq=33,nk=50,d=24,mask=causal,pass=bwd",
        "hq=2,nq=33,d=16,softcap=3,pos=alibi,pass=bwd"}},
      {"gradients of keys add up to zero (M6)",
       key_gradients_vanish,
       {"hq=2,nq=65,d=16,pass=bwd", "b=2,hq=4,hk=2,nq=33,nk=50,d=24,mask=causal,pass=bwd"}},
      {"q.dQ equals k.dK (M7)",
       query_and_key_gradients_balance,
       {"hq=2,nq=65,d=16,pass=bwd", "b=2,hq=4,hk=2,nq=33,nk=50,d=24,mask=causal,pass=bwd",
        "hq=2,nq=33,d=16,softcap=3,pos=alibi,pass=bwd"}},
      {"scaled values scale dQ and dK (M8)",
       value_scale_scales_gradients,
       {"hq=2,nq=65,d=16,pass=bwd", "hq=4,hk=2,nq=33,d=24,mask=causal,pass=bwd"}},
      {"gradients of a T5 bias add up to zero (G47)",
       bias_gradients_vanish,
       {"hq=2,nq=65,d=16,pos=t5:32:128,pass=bwd", "hq=2,nq=33,d=16,pos=t5-causal:8:20,mask=causal,pass=bwd"}},
  };
  return all;
}

void run_property(const Property& property, const Variant& variant, uint64_t seed, int threads,
                  LaunchMode launch, PropertyReport& report) {
  for (const char* text : property.problems) {
    const Problem p = Problem::parse(text);
    try {
      property.holds(Laboratory(variant, seed, threads, launch), p);
      ++report.runs;
    } catch (const Unsupported&) {
      ++report.unsupported;
    } catch (const Broken& broken) {
      ++report.runs;
      report.failures.push_back(fmt::format("{}: {}: {}", variant.info().name, p.text(), broken.what));
    } catch (const CannotCapture& error) {
      ++report.runs;
      report.failures.push_back(fmt::format("{}: {}: {}", variant.info().name, p.text(), error.what()));
    }
  }
}

}  // namespace

std::vector<PropertyReport> check_properties(const std::vector<const Variant*>& variants, uint64_t seed,
                                             int threads, LaunchMode launch) {
  std::vector<PropertyReport> reports;
  for (const Property& property : properties()) {
    PropertyReport report{.property = property.name};
    for (const Variant* variant : variants) run_property(property, *variant, seed, threads, launch, report);
    reports.push_back(std::move(report));
  }
  return reports;
}

}  // namespace attn
