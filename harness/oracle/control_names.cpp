#include "harness/oracle/control_kernel.h"

#include <algorithm>
#include <iterator>

namespace attn {
namespace {

struct Name {
  Mutation mutation;
  const char* text;
  bool in_study = false;
};

constexpr Name kNames[] = {
    {Mutation::scale_one_over_d, "scale_one_over_d", true},
    {Mutation::scale_missing, "scale_missing", true},
    {Mutation::scale_sqrt_d_plus_1, "scale_sqrt_d_plus_1", true},
    {Mutation::no_maximum, "no_maximum", true},
    {Mutation::maximum_of_first_half, "maximum_of_first_half", true},
    {Mutation::scores_clamped_to_30, "scores_clamped_to_30", true},
    {Mutation::mask_strict, "mask_strict", true},
    {Mutation::mask_off_by_one, "mask_off_by_one", true},
    {Mutation::mask_ignored, "mask_ignored", true},
    {Mutation::farthest_key_dropped, "farthest_key_dropped", true},
    {Mutation::window_off_by_one, "window_off_by_one"},
    {Mutation::causal_top_left, "causal_top_left"},
    {Mutation::masked_values_times_zero, "masked_values_times_zero"},
    {Mutation::padding_off_by_one, "padding_off_by_one"},
    {Mutation::padding_of_first_entry, "padding_of_first_entry"},
    {Mutation::block_edge_off_by_one, "block_edge_off_by_one"},
    {Mutation::document_begins_early, "document_begins_early"},
    {Mutation::last_heads_swapped, "last_heads_swapped", true},
    {Mutation::value_of_neighbour_head, "value_of_neighbour_head", true},
    {Mutation::last_head_reads_previous_query, "last_head_reads_previous_query", true},
    {Mutation::key_channels_reversed, "key_channels_reversed", true},
    {Mutation::wrong_group, "wrong_group"},
    {Mutation::keys_of_first_batch, "keys_of_first_batch"},
    {Mutation::normaliser_misses_last_key, "normaliser_misses_last_key", true},
    {Mutation::last_key_dropped, "last_key_dropped", true},
    {Mutation::key_64_skipped, "key_64_skipped", true},
    {Mutation::key_0_twice, "key_0_twice", true},
    {Mutation::denominator_starts_at_1e_3, "denominator_starts_at_1e_3", true},
    {Mutation::rescale_forgotten, "rescale_forgotten"},
    {Mutation::key_tail_dropped, "key_tail_dropped"},
    {Mutation::value_tail_dropped, "value_tail_dropped"},
    {Mutation::exp2_without_log2e, "exp2_without_log2e", true},
    {Mutation::exp_error_1e_4, "exp_error_1e_4", true},
    {Mutation::exp_error_1e_6, "exp_error_1e_6", true},
    {Mutation::weights_rounded_to_f16, "weights_rounded_to_f16", true},
    {Mutation::scores_rounded_to_bf16, "scores_rounded_to_bf16", true},
    {Mutation::output_accumulated_in_bf16, "output_accumulated_in_bf16", true},
    {Mutation::stale_last_row, "stale_last_row", true},
    {Mutation::one_nan, "one_nan", true},
    {Mutation::one_zero, "one_zero", true},
    {Mutation::garbage_row_1e_3, "garbage_row_1e_3", true},
    {Mutation::stale_accumulator, "stale_accumulator"},
    {Mutation::mean_of_values, "mean_of_values"},
    {Mutation::all_zeros, "all_zeros"},
    {Mutation::empty_row_nan, "empty_row_nan"},
    {Mutation::lse_base_2, "lse_base_2"},
    {Mutation::lse_without_maximum, "lse_without_maximum"},
    {Mutation::relative_sign_wrong, "relative_sign_wrong"},
    {Mutation::shaw_value_ignored, "shaw_value_ignored"},
    {Mutation::shaw_not_clipped_right, "shaw_not_clipped_right"},
    {Mutation::shaw_clip_off_by_one, "shaw_clip_off_by_one"},
    {Mutation::shaw_key_unscaled, "shaw_key_unscaled"},
    {Mutation::alibi_slopes_of_power_of_two, "alibi_slopes_of_power_of_two"},
    {Mutation::t5_bucket_edge, "t5_bucket_edge"},
    {Mutation::rope_query_without_offset, "rope_query_without_offset"},
    {Mutation::rope_pairs_exchanged, "rope_pairs_exchanged"},
    {Mutation::softcap_ignored, "softcap_ignored"},
    {Mutation::bias_inside_softcap, "bias_inside_softcap"},
    {Mutation::gradient_without_tau, "gradient_without_tau"},
    {Mutation::gradient_without_delta, "gradient_without_delta"},
    {Mutation::d_k_of_one_head_of_group, "d_k_of_one_head_of_group"},
    {Mutation::d_v_of_unscaled_weights, "d_v_of_unscaled_weights"},
    {Mutation::softcap_slope_ignored, "softcap_slope_ignored"},
    {Mutation::table_gradient_of_one_head, "table_gradient_of_one_head"},
    {Mutation::d_q_without_shaw_key, "d_q_without_shaw_key"},
    {Mutation::rope_gradient_not_rotated_back, "rope_gradient_not_rotated_back"},
};

}  // namespace

const std::vector<Mutation>& all_mutations() {
  static const std::vector<Mutation> mutations = [] {
    std::vector<Mutation> all;
    for (const Name& name : kNames) all.push_back(name.mutation);
    return all;
  }();
  return mutations;
}

std::string to_text(Mutation mutation) {
  for (const Name& name : kNames) {
    if (name.mutation == mutation) return name.text;
  }
  return "none";
}

bool in_study(Mutation mutation) {
  return std::any_of(std::begin(kNames), std::end(kNames),
                     [&](const Name& name) { return name.mutation == mutation && name.in_study; });
}

}  // namespace attn
