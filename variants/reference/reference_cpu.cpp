// Attention by plain loops, forward and backward: slow, obvious, the file to copy.
//
// A row of scores at a time: scores, their maximum, exponentials, sum, weighted mean of the values. The
// backward recomputes the row's P from the LSE and adds each pair's share to the gradients; a key/value head
// is one task, so that no two tasks write to the same gradient.
//
// Time O(h n^2 d), workspace O(n) a thread. Vaswani et al. 2017, equation 1.

#include <omp.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "harness/variant.h"
#include "variants/common/position_cpu.h"

namespace attn {
namespace {

float dot(const float* a, const float* b, int64_t width) {
  float sum = 0;
  for (int64_t c = 0; c < width; ++c) sum += a[c] * b[c];
  return sum;
}

void add_scaled(float factor, const float* from, float* to, int64_t width) {
  for (int64_t c = 0; c < width; ++c) to[c] += factor * from[c];
}

struct Scratch {
  RopeTable rope;
  ToeplitzBias bias;
  float* scores;      // [threads, seq_kv] before the bias, then P
  float* row;         // [threads, 4, head_dim] rotated q, rotated k, d_q, d_k of a pair
  float* table_sums;  // [heads_kv, table] gradients of the Shaw tables before they are added over heads
  int64_t table_size;

  static Scratch take(const Context& context, const Problem& p, Workspace& workspace) {
    Scratch s;
    s.rope = RopeTable::take(p, workspace);
    s.bias = ToeplitzBias::take(p, workspace);
    s.scores = workspace.take<float>("scores", context.threads * p.seq_kv);
    s.row = workspace.take<float>("rows", context.threads * 4 * p.head_dim);
    s.table_size = 0;
    if (p.pass == Pass::bwd && p.position.shaw()) {
      s.table_size = p.position.shaw_rows() * (p.head_dim + (p.position.shaw_values() ? p.value_dim : 0));
    }
    s.table_sums = workspace.take<float>("table gradients by head", p.heads_kv * s.table_size);
    return s;
  }
};

/// One query row of one head against all keys.
class Row {
 public:
  Row(const Problem& p, const MaskRule& rule, const Scratch& scratch, const Tables& tables, ConstTensor q,
      ConstTensor k)
      : p_(p), rule_(rule), scratch_(scratch), tables_(tables), q_(q), k_(k) {
    const int thread = omp_get_thread_num();
    scores = scratch.scores + thread * p.seq_kv;
    rotated_q_ = scratch.row + thread * 4 * p.head_dim;
    rotated_k_ = rotated_q_ + p.head_dim;
  }

  float* scores;

  void start(int64_t b, int64_t h, int64_t i) {
    b_ = b;
    h_ = h;
    i_ = i;
    position_ = i + p_.offset();
    query_ = q_.row<float>(b, i, h);
    if (!scratch_.rope.empty()) {
      scratch_.rope.rotate(query_, rotated_q_, position_);
      query_ = rotated_q_;
    }
  }
  const float* query() const { return query_; }
  const float* key(int64_t j) const {
    const float* key = k_.row<float>(b_, j, h_ / p_.group());
    if (scratch_.rope.empty()) return key;
    scratch_.rope.rotate(key, rotated_k_, j);
    return rotated_k_;
  }
  bool visible(int64_t j) const { return rule_.allows(b_, i_, j); }
  int64_t shaw_row(int64_t j) const { return shaw_index(p_.position.clip, j - position_); }
  const float* shaw_key(int64_t j) const {
    return tables_.shaw_key ? tables_.shaw_key + shaw_row(j) * p_.head_dim : nullptr;
  }
  const float* shaw_value(int64_t j) const {
    return tables_.shaw_value ? tables_.shaw_value + shaw_row(j) * p_.value_dim : nullptr;
  }
  float bias(int64_t j) const { return scratch_.bias.empty() ? 0.0f : scratch_.bias.row(h_)[i_ - j]; }

  /// The score of a visible key before the bias, softcapped.
  float capped_score(int64_t j) const {
    float score = dot(query_, key(j), p_.head_dim);
    if (const float* relative = shaw_key(j)) score += dot(query_, relative, p_.head_dim);
    score *= static_cast<float>(p_.softmax_scale());
    const auto cap = static_cast<float>(p_.softcap);
    return cap == 0 ? score : cap * std::tanh(score / cap);
  }
  int64_t bias_element(int64_t j) const { return i_ - j + p_.seq_kv - 1; }

 private:
  const Problem& p_;
  const MaskRule& rule_;
  const Scratch& scratch_;
  const Tables& tables_;
  ConstTensor q_, k_;
  float* rotated_q_;
  float* rotated_k_;
  const float* query_ = nullptr;
  int64_t b_ = 0, h_ = 0, i_ = 0, position_ = 0;
};

class ReferenceCpu final : public Variant {
 public:
  ReferenceCpu()
      : Variant({.name = "reference/cpu",
                 .family = "dense",
                 .tags = {"reference"},
                 .citation = "Vaswani et al. 2017"}) {}

  Support supports(const Problem& p) const override {
    if (p.dtype != Dtype::f32) return {"float32 only"};
    return {};
  }

  void plan(const Context& context, const Problem& p, Workspace& workspace) const override {
    Scratch::take(context, p, workspace);
  }

  Cost cost(const Problem& p) const override {
    const auto pairs = static_cast<double>(visible_pairs(p)) * static_cast<double>(p.heads_q);
    const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
    Cost cost;
    cost.flops_executed = p.pass == Pass::fwd ? 2 * (d + dv) * pairs : 2 * (3 * d + 2 * dv) * pairs;
    cost.exps = pairs;
    cost.bytes_moved = 4 * (p.pass == Pass::fwd ? 1 : 2) * pairs * (d + dv);  // K and V again for every query
    cost.time_order = "O(h n^2 d)";
    cost.memory_order = "O(n)";
    return cost;
  }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    const Scratch scratch = Scratch::take(context, p, workspace);
    scratch.rope.fill(p);
    scratch.bias.prepare(p);
  }

  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const Scratch scratch = Scratch::take(context, p, workspace);
    const MaskRule rule = p.mask_rule();
    scratch.bias.fill(p, args.tables, 1, context.threads);
#pragma omp parallel for collapse(2) num_threads(context.threads) schedule(dynamic)
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t h = 0; h < p.heads_q; ++h) {
        Row row(p, rule, scratch, args.tables, args.q, args.k);
        for (int64_t i = 0; i < p.seq_q; ++i) {
          row.start(b, h, i);
          args.lse[(b * p.heads_q + h) * p.seq_q + i] = forward_row(p, args, row, b, h, i);
        }
      }
    }
  }

  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    const Scratch scratch = Scratch::take(context, p, workspace);
    const MaskRule rule = p.mask_rule();
    scratch.bias.fill(p, args.tables, 1, context.threads);
    if (args.d_tables.t5_bias) std::fill_n(args.d_tables.t5_bias, p.position.buckets * p.heads_q, 0.0f);
#pragma omp parallel for num_threads(context.threads) schedule(dynamic)
    for (int64_t g = 0; g < p.heads_kv; ++g) {
      float* table_sums = scratch.table_sums + g * scratch.table_size;
      std::fill_n(table_sums, scratch.table_size, 0.0f);
      for (int64_t b = 0; b < p.batch; ++b) backward_head(p, args, scratch, rule, b, g, table_sums);
    }
    add_table_gradients(p, args, scratch);
  }

 private:
  /// Writes the row of O and returns its LSE.
  static float forward_row(const Problem& p, const Forward& args, Row& row, int64_t b, int64_t h, int64_t i) {
    constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
    float* o = args.o.row<float>(b, i, h);
    std::fill_n(o, p.value_dim, 0.0f);
    float maximum = kMinusInfinity;
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      if (!row.visible(j)) continue;
      row.scores[j] = row.capped_score(j) + row.bias(j);
      maximum = std::max(maximum, row.scores[j]);
    }
    if (maximum == kMinusInfinity) return kMinusInfinity;
    float sum = 0;
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      if (!row.visible(j)) continue;
      const float weight = std::exp(row.scores[j] - maximum);
      sum += weight;
      add_scaled(weight, args.v.row<float>(b, j, h / p.group()), o, p.value_dim);
      if (const float* relative = row.shaw_value(j)) add_scaled(weight, relative, o, p.value_dim);
    }
    for (int64_t c = 0; c < p.value_dim; ++c) o[c] /= sum;
    return maximum + std::log(sum);
  }

  /// All query heads that read key/value head g.
  static void backward_head(const Problem& p, const Backward& args, const Scratch& scratch,
                            const MaskRule& rule, int64_t b, int64_t g, float* table_sums) {
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      std::fill_n(args.d_k.row<float>(b, j, g), p.head_dim, 0.0f);
      std::fill_n(args.d_v.row<float>(b, j, g), p.value_dim, 0.0f);
    }
    Row row(p, rule, scratch, args.tables, args.q, args.k);
    for (int64_t h = g * p.group(); h < (g + 1) * p.group(); ++h) {
      for (int64_t i = 0; i < p.seq_q; ++i) {
        row.start(b, h, i);
        backward_row(p, args, scratch, row, b, h, i, table_sums);
      }
    }
    if (scratch.rope.empty()) return;
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      float* d_k = args.d_k.row<float>(b, j, g);
      scratch.rope.rotate(d_k, d_k, j, true);
    }
  }

  static void backward_row(const Problem& p, const Backward& args, const Scratch& scratch, Row& row,
                           int64_t b, int64_t h, int64_t i, float* table_sums) {
    const int64_t g = h / p.group();
    const auto tau = static_cast<float>(p.softmax_scale()), cap = static_cast<float>(p.softcap);
    const float* d_o = args.d_o.row<float>(b, i, h);
    const float lse = args.lse[(b * p.heads_q + h) * p.seq_q + i];
    float* d_q = args.d_q.row<float>(b, i, h);
    std::fill_n(d_q, p.head_dim, 0.0f);
    if (std::isinf(lse)) return;  // no visible key
    const float mean = dot(d_o, args.o.row<float>(b, i, h), p.value_dim);
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      if (!row.visible(j)) continue;
      const float score = row.capped_score(j);
      const float weight = std::exp(score + row.bias(j) - lse);
      float d_weight = dot(d_o, args.v.row<float>(b, j, g), p.value_dim);
      if (const float* relative = row.shaw_value(j)) {
        d_weight += dot(d_o, relative, p.value_dim);
        float* sums = table_sums + p.position.shaw_rows() * p.head_dim;
        add_scaled(weight, d_o, sums + row.shaw_row(j) * p.value_dim, p.value_dim);
      }
      add_scaled(weight, d_o, args.d_v.row<float>(b, j, g), p.value_dim);
      float d_score = weight * (d_weight - mean);
      if (args.d_tables.t5_bias) {
        const int64_t bucket = p.position.t5_bucket(p.seq_q - 1 - row.bias_element(j));
        args.d_tables.t5_bias[bucket * p.heads_q + h] += d_score;
      }
      if (cap != 0) d_score *= 1 - (score / cap) * (score / cap);
      d_score *= tau;
      add_scaled(d_score, row.key(j), d_q, p.head_dim);
      add_scaled(d_score, row.query(), args.d_k.row<float>(b, j, g), p.head_dim);
      if (const float* relative = row.shaw_key(j)) {
        add_scaled(d_score, relative, d_q, p.head_dim);
        add_scaled(d_score, row.query(), table_sums + row.shaw_row(j) * p.head_dim, p.head_dim);
      }
    }
    if (!scratch.rope.empty()) scratch.rope.rotate(d_q, d_q, i + p.offset(), true);
  }

  static void add_table_gradients(const Problem& p, const Backward& args, const Scratch& scratch) {
    const auto add = [&](float* gradient, int64_t first, int64_t size) {
      if (!gradient) return;
      std::fill_n(gradient, size, 0.0f);
      for (int64_t g = 0; g < p.heads_kv; ++g) {
        add_scaled(1, scratch.table_sums + g * scratch.table_size + first, gradient, size);
      }
    };
    const int64_t keys = p.position.shaw_rows() * p.head_dim;
    add(args.d_tables.shaw_key, 0, keys);
    add(args.d_tables.shaw_value, keys, p.position.shaw_rows() * p.value_dim);
  }
};

ATTN_REGISTER(std::make_unique<ReferenceCpu>());

}  // namespace
}  // namespace attn
