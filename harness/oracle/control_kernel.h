#pragma once
// One plain float32 attention kernel with planted errors ("mutants") to choose from: what a checker must
// reject. Mutation sensitivity testing, Hook and Kelly 2009.

#include <string>
#include <vector>

#include "harness/variant.h"

namespace attn {

enum class Mutation {
  none,
  // scale
  scale_one_over_d,
  scale_missing,
  scale_sqrt_d_plus_1,
  // maximum
  no_maximum,
  maximum_of_first_half,
  scores_clamped_to_30,
  // mask
  mask_strict,
  mask_off_by_one,
  mask_ignored,
  farthest_key_dropped,
  window_off_by_one,
  causal_top_left,
  masked_values_times_zero,
  padding_off_by_one,
  padding_of_first_entry,
  block_edge_off_by_one,
  document_begins_early,
  // heads
  last_heads_swapped,
  value_of_neighbour_head,
  last_head_reads_previous_query,
  key_channels_reversed,
  wrong_group,
  keys_of_first_batch,
  // sum
  normaliser_misses_last_key,
  last_key_dropped,
  key_64_skipped,
  key_0_twice,
  denominator_starts_at_1e_3,
  rescale_forgotten,
  key_tail_dropped,
  value_tail_dropped,
  // exp
  exp2_without_log2e,
  exp_error_1e_4,
  exp_error_1e_6,
  // precision
  weights_rounded_to_f16,
  scores_rounded_to_bf16,
  output_accumulated_in_bf16,
  // output
  stale_last_row,
  one_nan,
  one_zero,
  garbage_row_1e_3,
  stale_accumulator,
  mean_of_values,
  all_zeros,
  empty_row_nan,
  lse_base_2,
  lse_without_maximum,
  // position and softcap
  relative_sign_wrong,
  shaw_value_ignored,
  shaw_not_clipped_right,
  shaw_clip_off_by_one,
  shaw_key_unscaled,
  alibi_slopes_of_power_of_two,
  t5_bucket_edge,
  rope_query_without_offset,
  rope_pairs_exchanged,
  softcap_ignored,
  bias_inside_softcap,
  // backward
  gradient_without_tau,
  gradient_without_delta,
  d_k_of_one_head_of_group,
  d_v_of_unscaled_weights,
  softcap_slope_ignored,
  table_gradient_of_one_head,
  d_q_without_shaw_key,
  rope_gradient_not_rotated_back,
};

const std::vector<Mutation>& all_mutations();  ///< without none
std::string to_text(Mutation mutation);
/// True for the 29 errors that a study of the fills and of the bound was made with.
bool in_study(Mutation mutation);

/// Every problem, computed in float32. Allocates as it pleases: it is never timed.
std::unique_ptr<Variant> make_control(Mutation mutation);

}  // namespace attn
