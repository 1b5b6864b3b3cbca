#include "harness/oracle/control_forward.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace attn {
namespace {

using M = Mutation;
constexpr float kMinusInfinity = -std::numeric_limits<float>::infinity();
constexpr int64_t kTile = 64;

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

/// What vectors of eight leave over.
bool in_tail(int64_t c, int64_t width) { return c >= width / 8 * 8; }

}  // namespace

ControlForward::ControlForward(const Problem& problem, Mutation mutation, const ControlOperands& operands,
                               const Tables& tables)
    : p(problem),
      m(mutation),
      tau(planted_scale(problem, mutation)),
      in_(operands),
      tables_(tables),
      rule_(planted_mask(problem, mutation)),
      scores_(static_cast<size_t>(p.seq_kv)) {
  for (int64_t b = 0; m == M::padding_off_by_one && rule_.lengths && b < p.batch; ++b)
    lengths_.push_back({rule_.key_length(b) + 1});
  if (!lengths_.empty()) rule_.lengths = lengths_.data(), rule_.lengths_count = p.batch;
  for (int64_t distance = 1 - p.seq_q - p.offset(); p.position.t5() && distance < p.seq_kv - p.offset();
       ++distance) {
    int64_t seen = m == M::relative_sign_wrong ? -distance : distance;
    if (m == M::t5_bucket_edge && std::abs(seen) > p.position.buckets / 4) seen -= seen < 0 ? -1 : 1;
    buckets_.push_back(p.position.t5_bucket(seen));
  }
}

bool ControlForward::visible(int64_t b, int64_t i, int64_t j) const {
  if (m == M::last_key_dropped && j == p.seq_kv - 1) return false;
  if (m == M::key_64_skipped && j == kTile) return false;
  if (m == M::farthest_key_dropped && i == p.seq_q - 1 && j == rule_.row_range(b, i).begin) return false;
  if (m == M::block_edge_off_by_one && rule_.blocks && j + 1 < p.seq_kv) return rule_.allows(b, i, j + 1);
  if (m == M::document_begins_early && rule_.documents && j + 1 == rule_.documents[i].begin) return true;
  return rule_.allows(m == M::padding_of_first_entry ? 0 : b, i, j);
}

const float* ControlForward::query(int64_t b, int64_t i, int64_t h) const {
  const bool previous = m == M::last_head_reads_previous_query && h == p.heads_q - 1 && h > 0;
  return in_.q.row(b, i, previous ? h - 1 : h);
}

const float* ControlForward::key(int64_t b, int64_t j, int64_t h) const {
  const int64_t group = m == M::wrong_group ? h % p.heads_kv : h / p.group();
  return in_.k.row(m == M::keys_of_first_batch ? 0 : b, j, group);
}

const float* ControlForward::value(int64_t b, int64_t j, int64_t h) const {
  const int64_t group = m == M::wrong_group ? h % p.heads_kv : h / p.group();
  return in_.v.row(b, j, m == M::value_of_neighbour_head ? (group + 1) % p.heads_kv : group);
}

int64_t ControlForward::shaw_row(int64_t i, int64_t j) const {
  const int64_t distance = j - i - p.offset(), clip = p.position.clip;
  if (m == M::relative_sign_wrong) return shaw_index(clip, -distance);
  if (m == M::shaw_not_clipped_right && distance > clip) return 0;
  if (m == M::shaw_clip_off_by_one && clip > 0) return shaw_index(clip - 1, distance) + 1;
  return shaw_index(clip, distance);
}

const float* ControlForward::shaw_key(int64_t i, int64_t j) const {
  return tables_.shaw_key ? tables_.shaw_key + shaw_row(i, j) * p.head_dim : nullptr;
}

const float* ControlForward::shaw_value(int64_t i, int64_t j) const {
  if (!tables_.shaw_value || m == M::shaw_value_ignored) return nullptr;
  return tables_.shaw_value + shaw_row(i, j) * p.value_dim;
}

int64_t ControlForward::t5_bucket(int64_t i, int64_t j) const {
  return buckets_[static_cast<size_t>(j - i + p.seq_q - 1)];
}

float ControlForward::bias(int64_t h, int64_t i, int64_t j) const {
  if (p.position.t5()) return tables_.t5_bias[t5_bucket(i, j) * p.heads_q + h];
  if (p.position.kind != PositionKind::alibi) return 0;
  const auto distance = static_cast<double>(std::abs(j - i - p.offset()));
  double slope = alibi_slope(p.heads_q, h);
  if (m == M::alibi_slopes_of_power_of_two)
    slope = std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(p.heads_q));
  return static_cast<float>((m == M::relative_sign_wrong ? slope : -slope) * distance);
}

ControlForward::Score ControlForward::score(int64_t b, int64_t h, int64_t i, int64_t j) const {
  const float *x = query(b, i, h), *y = key(b, j, h), *relative = shaw_key(i, j);
  float sum = 0, relative_sum = 0;
  for (int64_t c = 0; c < p.head_dim; ++c) {
    if (m == M::key_tail_dropped && in_tail(c, p.head_dim)) break;
    sum += x[c] * y[m == M::key_channels_reversed ? p.head_dim - 1 - c : c];
    if (relative) (m == M::shaw_key_unscaled ? relative_sum : sum) += x[c] * relative[c];
  }
  float s = sum * tau + relative_sum;
  const float added = bias(h, i, j);
  if (m == M::bias_inside_softcap) s += added;
  const auto cap = static_cast<float>(p.softcap);
  if (cap != 0 && m != M::softcap_ignored) s = cap * std::tanh(s / cap);
  Score result{s, m == M::bias_inside_softcap ? s : s + added};
  if (m == M::scores_rounded_to_bf16) result.biased = round_to(Dtype::bf16, result.biased);
  if (m == M::scores_clamped_to_30) result.biased = std::clamp(result.biased, -30.0f, 30.0f);
  return result;
}

float ControlForward::exponential(float x, int64_t j) const {
  if (m == M::exp2_without_log2e) return std::exp2(x);
  const float sign = j % 2 ? 1.0f : -1.0f;
  if (m == M::exp_error_1e_4) return std::exp(x) * (1 + sign * 1e-4f);
  if (m == M::exp_error_1e_6) return std::exp(x) * (1 + sign * 1e-6f);
  return std::exp(x);
}

/// Over the visible keys before `end`.
float ControlForward::maximum(int64_t b, int64_t i, int64_t end) const {
  if (m == M::maximum_of_first_half) end = (p.seq_kv + 1) / 2;
  float largest = kMinusInfinity;
  for (int64_t j = 0; j < std::min(end, p.seq_kv); ++j) {
    if (visible(b, i, j)) largest = std::max(largest, scores_[static_cast<size_t>(j)]);
  }
  return m == M::no_maximum || largest == kMinusInfinity ? 0 : largest;
}

float ControlForward::row(int64_t b, int64_t h, int64_t i, float* o) {
  if (m != M::stale_accumulator || i == 0) std::fill_n(o, p.value_dim, 0.0f);
  int64_t seen = 0;
  for (int64_t j = 0; j < p.seq_kv; ++j) {
    if (!visible(b, i, j)) continue;
    scores_[static_cast<size_t>(j)] = score(b, h, i, j).biased;
    ++seen;
  }
  if (seen == 0) {
    if (m == M::empty_row_nan) std::fill_n(o, p.value_dim, std::numeric_limits<float>::quiet_NaN());
    return kMinusInfinity;
  }
  const float largest = maximum(b, i, p.seq_kv);
  const float largest_of_tile = m == M::rescale_forgotten ? maximum(b, i, kTile) : largest;
  float sum = m == M::denominator_starts_at_1e_3 ? 1e-3f : 0;
  for (int64_t j = 0; j < p.seq_kv; ++j) {
    if (!visible(b, i, j)) {
      if (m == M::masked_values_times_zero) add_value(b, h, i, j, 0, o);
      continue;
    }
    float weight = exponential(scores_[static_cast<size_t>(j)] - largest, j);
    if (m == M::weights_rounded_to_f16) weight = round_to(Dtype::f16, weight);
    const float rescaled = j < kTile && m == M::rescale_forgotten ? std::exp(largest - largest_of_tile) : 1;
    const int repeats = m == M::key_0_twice && j == 0 ? 2 : 1;
    for (int r = 0; r < repeats; ++r) add_value(b, h, i, j, weight * rescaled, o);
    if (m == M::normaliser_misses_last_key && j == p.seq_kv - 1) continue;
    sum += weight * static_cast<float>(repeats);
  }
  for (int64_t c = 0; c < p.value_dim; ++c) o[c] /= sum;
  const float lse = (m == M::lse_without_maximum ? 0 : largest) + std::log(sum);
  return m == M::lse_base_2 ? lse * 1.44269504f : lse;
}

void ControlForward::add_value(int64_t b, int64_t h, int64_t i, int64_t j, float weight, float* o) const {
  const float *v = value(b, j, h), *relative = shaw_value(i, j);
  for (int64_t c = 0; c < p.value_dim; ++c) {
    if (m == M::value_tail_dropped && in_tail(c, p.value_dim)) break;
    o[c] += weight * (relative ? v[c] + relative[c] : v[c]);
    if (m == M::output_accumulated_in_bf16) o[c] = round_to(Dtype::bf16, o[c]);
  }
}

}  // namespace attn
