// Attention by plain loops over one row at a time, correct for Mutation::none; every planted error is one
// line. Time O(h n^2 d). Planted errors: mutation sensitivity testing, Hook and Kelly 2009.

#include "harness/oracle/control_kernel.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attn {
namespace {

using M = Mutation;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

MaskRule planted_mask(const Problem& p, Mutation m) {
  MaskRule rule = p.mask_rule();
  const bool causal = rule.band_high != MaskRule::kUnbounded;
  if (m == M::mask_ignored) rule = {.seq_kv = p.seq_kv};
  if (m == M::mask_strict && causal) rule.band_high -= 1;
  if (m == M::mask_off_by_one && causal) rule.band_high += 1;
  if (m == M::window_off_by_one && rule.band_low != -MaskRule::kUnbounded) rule.band_low -= 1;
  if (m == M::causal_top_left && causal) rule.band_high -= p.offset();
  return rule;
}

float planted_scale(const Problem& p, Mutation m) {
  const auto d = static_cast<float>(p.head_dim);
  if (m == M::scale_one_over_d) return 1 / d;
  if (m == M::scale_missing) return 1;
  if (m == M::scale_sqrt_d_plus_1) return 1 / std::sqrt(d + 1);
  return static_cast<float>(p.softmax_scale());
}

class Kernel {
 public:
  Kernel(const Problem& problem, Mutation mutation, ConstTensor q, ConstTensor k, ConstTensor v,
         const Tables& tables)
      : p(problem),
        m(mutation),
        rule(planted_mask(problem, mutation)),
        tau(planted_scale(problem, mutation)),
        q_(q),
        k_(k),
        v_(v),
        tables_(tables),
        scores(static_cast<size_t>(p.seq_kv)),
        weights(scores) {}

  bool visible(int64_t b, int64_t i, int64_t j) const {
    if (m == M::last_key_dropped && j == p.seq_kv - 1) return false;
    if (m == M::key_64_skipped && j == 64) return false;
    if (m == M::farthest_key_dropped && i == p.seq_q - 1 && j == rule.row_range(b, i).begin) return false;
    return rule.allows(b, i, j);
  }
  int64_t key_head(int64_t h) const { return m == M::wrong_group ? h % p.heads_kv : h / p.group(); }
  int64_t value_head(int64_t h) const {
    return m == M::value_of_neighbour_head ? (key_head(h) + 1) % p.heads_kv : key_head(h);
  }
  const float* query(int64_t b, int64_t i, int64_t h) const {
    const bool previous = m == M::last_head_reads_previous_query && h == p.heads_q - 1 && h > 0;
    return q_.row<float>(b, i, previous ? h - 1 : h);
  }
  const float* key(int64_t b, int64_t j, int64_t h) const { return k_.row<float>(b, j, key_head(h)); }
  const float* value(int64_t b, int64_t j, int64_t h) const { return v_.row<float>(b, j, value_head(h)); }
  int64_t shaw_row(int64_t i, int64_t j) const {
    const int64_t distance = j - i - p.offset(), clip = p.position.clip;
    if (m == M::relative_sign_wrong) return shaw_index(clip, -distance);
    if (m == M::shaw_not_clipped_right && distance > clip) return 0;
    return shaw_index(clip, distance);
  }
  const float* shaw_key(int64_t i, int64_t j) const {
    return tables_.shaw_key ? tables_.shaw_key + shaw_row(i, j) * p.head_dim : nullptr;
  }
  const float* shaw_value(int64_t i, int64_t j) const {
    if (!tables_.shaw_value || m == M::shaw_value_ignored) return nullptr;
    return tables_.shaw_value + shaw_row(i, j) * p.value_dim;
  }

  /// Softcapped score without and with its bias.
  struct Score {
    float capped, biased;
  };
  Score score(int64_t b, int64_t h, int64_t i, int64_t j) const {
    const float *x = query(b, i, h), *y = key(b, j, h), *relative = shaw_key(i, j);
    float sum = 0;
    for (int64_t c = 0; c < p.head_dim; ++c) {
      sum += x[c] * y[m == M::key_channels_reversed ? p.head_dim - 1 - c : c];
      if (relative) sum += x[c] * relative[c];
    }
    float s = sum * tau, bias = 0;
    if (p.position.kind == PositionKind::alibi) {
      const int64_t distance = j - i - p.offset();
      const double sign = m == M::relative_sign_wrong ? 1 : -1;
      bias = static_cast<float>(sign * alibi_slope(p.heads_q, h) * static_cast<double>(std::abs(distance)));
    }
    if (m == M::bias_inside_softcap) s += bias;
    const auto cap = static_cast<float>(p.softcap);
    if (cap != 0 && m != M::softcap_ignored) s = cap * std::tanh(s / cap);
    Score result{s, m == M::bias_inside_softcap ? s : s + bias};
    if (m == M::scores_rounded_to_bf16) result.biased = round_to(Dtype::bf16, result.biased);
    if (m == M::scores_clamped_to_30) result.biased = std::clamp(result.biased, -30.0f, 30.0f);
    return result;
  }

  float exponential(float x, int64_t j) const {
    if (m == M::exp2_without_log2e) return std::exp2(x);
    const float sign = j % 2 ? 1.0f : -1.0f;
    if (m == M::exp_error_1e_4) return std::exp(x) * (1 + sign * 1e-4f);
    if (m == M::exp_error_1e_6) return std::exp(x) * (1 + sign * 1e-6f);
    return std::exp(x);
  }

  float maximum(int64_t b, int64_t i) const {
    const int64_t end = m == M::maximum_of_first_half ? (p.seq_kv + 1) / 2 : p.seq_kv;
    float largest = kMinusInfinity;
    for (int64_t j = 0; j < end; ++j) {
      if (visible(b, i, j)) largest = std::max(largest, scores[static_cast<size_t>(j)]);
    }
    return m == M::no_maximum || largest == kMinusInfinity ? 0 : largest;
  }

  /// Writes O and returns the LSE of one row.
  float forward_row(int64_t b, int64_t h, int64_t i, float* o) {
    if (m != M::stale_accumulator || i == 0) std::fill_n(o, p.value_dim, 0.0f);
    int64_t seen = 0;
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      if (!visible(b, i, j)) continue;
      scores[static_cast<size_t>(j)] = score(b, h, i, j).biased;
      ++seen;
    }
    if (seen == 0) {
      if (m == M::empty_row_nan) std::fill_n(o, p.value_dim, kNan);
      return kMinusInfinity;
    }
    const float largest = maximum(b, i);
    float sum = m == M::denominator_starts_at_1e_3 ? 1e-3f : 0;
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      if (!visible(b, i, j)) {
        if (m == M::masked_values_times_zero) add_value(b, h, i, j, 0, o);
        continue;
      }
      float weight = exponential(scores[static_cast<size_t>(j)] - largest, j);
      if (m == M::weights_rounded_to_f16) weight = round_to(Dtype::f16, weight);
      const int repeats = m == M::key_0_twice && j == 0 ? 2 : 1;
      for (int r = 0; r < repeats; ++r) add_value(b, h, i, j, weight, o);
      if (m == M::normaliser_misses_last_key && j == p.seq_kv - 1) continue;
      sum += weight * static_cast<float>(repeats);
    }
    for (int64_t c = 0; c < p.value_dim; ++c) o[c] /= sum;
    const float lse = (m == M::lse_without_maximum ? 0 : largest) + std::log(sum);
    return m == M::lse_base_2 ? lse * 1.44269504f : lse;
  }

  void add_value(int64_t b, int64_t h, int64_t i, int64_t j, float weight, float* o) const {
    const float *v = value(b, j, h), *relative = shaw_value(i, j);
    for (int64_t c = 0; c < p.value_dim; ++c) {
      o[c] += weight * (relative ? v[c] + relative[c] : v[c]);
      if (m == M::output_accumulated_in_bf16) o[c] = round_to(Dtype::bf16, o[c]);
    }
  }

  const Problem& p;
  Mutation m;
  MaskRule rule;
  float tau;

 private:
  ConstTensor q_, k_, v_;
  const Tables& tables_;
  std::vector<float> scores, weights;
};

/// Errors in what is written rather than in what is computed.
void spoil_outputs(const Problem& p, Mutation m, const Forward& args) {
  const auto row = [&](int64_t b, int64_t i, int64_t h) { return args.o.row<float>(b, i, h); };
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < p.seq_q; ++i) {
      if (m == M::last_heads_swapped && p.heads_q > 1) {
        std::swap_ranges(row(b, i, p.heads_q - 1), row(b, i, p.heads_q - 1) + p.value_dim,
                         row(b, i, p.heads_q - 2));
      }
      for (int64_t h = 0; h < p.heads_q; ++h) {
        if (m == M::all_zeros) std::fill_n(row(b, i, h), p.value_dim, 0.0f);
        if (m != M::mean_of_values) continue;
        std::fill_n(row(b, i, h), p.value_dim, 0.0f);
        for (int64_t j = 0; j < p.seq_kv; ++j) {
          const float* v = args.v.row<float>(b, j, h / p.group());
          for (int64_t c = 0; c < p.value_dim; ++c) row(b, i, h)[c] += v[c] / static_cast<float>(p.seq_kv);
        }
      }
    }
  }
  float* middle = row(0, p.seq_q / 2, p.heads_q - 1);
  if (m == M::stale_last_row && p.seq_q > 1)
    std::copy_n(row(0, p.seq_q - 2, 0), p.value_dim, row(0, p.seq_q - 1, 0));
  if (m == M::one_nan) middle[p.value_dim / 2] = kNan;
  if (m == M::one_zero) middle[p.value_dim / 2] = 0;
  if (m == M::garbage_row_1e_3) std::for_each(middle, middle + p.value_dim, [](float& x) { x += 1e-3f; });
}

class Gradients {
 public:
  Gradients(Kernel& kernel, const Backward& args)
      : kernel_(kernel), p_(kernel.p), m_(kernel.m), args_(args) {}

  void run() {
    clear();
    for (int64_t b = 0; b < p_.batch; ++b) {
      for (int64_t h = 0; h < p_.heads_q; ++h) {
        for (int64_t i = 0; i < p_.seq_q; ++i) add_row(b, h, i);
      }
    }
  }

 private:
  void clear() {
    for (int64_t b = 0; b < p_.batch; ++b) {
      for (int64_t g = 0; g < p_.heads_kv; ++g) {
        for (int64_t j = 0; j < p_.seq_kv; ++j) {
          std::fill_n(args_.d_k.row<float>(b, j, g), p_.head_dim, 0.0f);
          std::fill_n(args_.d_v.row<float>(b, j, g), p_.value_dim, 0.0f);
        }
      }
    }
    const int64_t rows = p_.position.shaw_rows();
    if (args_.d_tables.shaw_key) std::fill_n(args_.d_tables.shaw_key, rows * p_.head_dim, 0.0f);
    if (args_.d_tables.shaw_value) std::fill_n(args_.d_tables.shaw_value, rows * p_.value_dim, 0.0f);
  }

  void add_row(int64_t b, int64_t h, int64_t i) {
    float* d_q = args_.d_q.row<float>(b, i, h);
    std::fill_n(d_q, p_.head_dim, 0.0f);
    const float *d_o = args_.d_o.row<float>(b, i, h), *o = args_.o.row<float>(b, i, h);
    const float lse = args_.lse[(b * p_.heads_q + h) * p_.seq_q + i];
    if (lse == kMinusInfinity) return;
    float delta = 0;
    for (int64_t c = 0; c < p_.value_dim && m_ != M::gradient_without_delta; ++c) delta += d_o[c] * o[c];
    for (int64_t j = 0; j < p_.seq_kv; ++j) {
      if (kernel_.visible(b, i, j)) add_pair(b, h, i, j, lse, delta);
    }
  }

  void add_pair(int64_t b, int64_t h, int64_t i, int64_t j, float lse, float delta) {
    const Kernel::Score score = kernel_.score(b, h, i, j);
    const float weight = std::exp(score.biased - lse);
    const float *d_o = args_.d_o.row<float>(b, i, h), *v = kernel_.value(b, j, h);
    const float *relative_key = kernel_.shaw_key(i, j), *relative_value = kernel_.shaw_value(i, j);
    const int64_t row = kernel_.shaw_row(i, j), g = h / p_.group();
    const bool only_last = m_ == M::table_gradient_of_one_head && h != p_.heads_q - 1;
    float* d_v = args_.d_v.row<float>(b, j, g);
    float d_weight = 0;
    for (int64_t c = 0; c < p_.value_dim; ++c) {
      d_weight += d_o[c] * (relative_value ? v[c] + relative_value[c] : v[c]);
      d_v[c] += (m_ == M::d_v_of_unscaled_weights ? std::exp(score.biased) : weight) * d_o[c];
      if (relative_value && !only_last) args_.d_tables.shaw_value[row * p_.value_dim + c] += weight * d_o[c];
    }
    const auto cap = static_cast<float>(p_.softcap);
    float d_score = weight * (d_weight - delta) * (m_ == M::gradient_without_tau ? 1 : kernel_.tau);
    if (cap != 0 && m_ != M::softcap_slope_ignored)
      d_score *= 1 - (score.capped / cap) * (score.capped / cap);
    const float *q = kernel_.query(b, i, h), *k = kernel_.key(b, j, h);
    float *d_q = args_.d_q.row<float>(b, i, h), *d_k = args_.d_k.row<float>(b, j, g);
    const bool last_of_group = (h + 1) % p_.group() == 0;
    for (int64_t c = 0; c < p_.head_dim; ++c) {
      d_q[c] += d_score * (relative_key ? k[c] + relative_key[c] : k[c]);
      if (m_ != M::d_k_of_one_head_of_group || last_of_group) d_k[c] += d_score * q[c];
      if (relative_key && !only_last) args_.d_tables.shaw_key[row * p_.head_dim + c] += d_score * q[c];
    }
  }

  Kernel& kernel_;
  const Problem& p_;
  Mutation m_;
  const Backward& args_;
};

class Control final : public Variant {
 public:
  explicit Control(Mutation mutation)
      : Variant({.name = "control/" + to_text(mutation), .family = "control"}), mutation_(mutation) {}

  Support supports(const Problem& p) const override {
    if (p.dtype != Dtype::f32) return {"float32 only"};
    if (p.position.rope() || p.position.t5()) return {"no RoPE, no T5"};
    return {};
  }
  void plan(const Context&, const Problem&, Workspace&) const override {}
  Cost cost(const Problem&) const override { return {}; }

  void forward(const Context&, const Problem& p, const Forward& args, Workspace&) const override {
    Kernel kernel(p, mutation_, args.q, args.k, args.v, args.tables);
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t h = 0; h < p.heads_q; ++h) {
        for (int64_t i = 0; i < p.seq_q; ++i) {
          float* o = args.o.row<float>(b, i, h);
          if (mutation_ == M::stale_accumulator && i > 0)
            std::copy_n(args.o.row<float>(b, i - 1, h), p.value_dim, o);
          args.lse[(b * p.heads_q + h) * p.seq_q + i] = kernel.forward_row(b, h, i, o);
        }
      }
    }
    spoil_outputs(p, mutation_, args);
  }
  void backward(const Context&, const Problem& p, const Backward& args, Workspace&) const override {
    Kernel kernel(p, mutation_, args.q, args.k, args.v, args.tables);
    Gradients(kernel, args).run();
  }

 private:
  Mutation mutation_;
};

}  // namespace

std::unique_ptr<Variant> make_control(Mutation mutation) { return std::make_unique<Control>(mutation); }

}  // namespace attn
