#include "harness/oracle/control_kernel.h"

namespace attn {
namespace {

struct Name {
  Mutation mutation;
  const char* text;
};

constexpr Name kNames[] = {
    {Mutation::scale_one_over_d, "scale_one_over_d"},
    {Mutation::scale_missing, "scale_missing"},
    {Mutation::scale_sqrt_d_plus_1, "scale_sqrt_d_plus_1"},
    {Mutation::no_maximum, "no_maximum"},
    {Mutation::maximum_of_first_half, "maximum_of_first_half"},
    {Mutation::scores_clamped_to_30, "scores_clamped_to_30"},
    {Mutation::mask_strict, "mask_strict"},
    {Mutation::mask_off_by_one, "mask_off_by_one"},
    {Mutation::mask_ignored, "mask_ignored"},
    {Mutation::farthest_key_dropped, "farthest_key_dropped"},
    {Mutation::window_off_by_one, "window_off_by_one"},
    {Mutation::causal_top_left, "causal_top_left"},
    {Mutation::masked_values_times_zero, "masked_values_times_zero"},
    {Mutation::last_heads_swapped, "last_heads_swapped"},
    {Mutation::value_of_neighbour_head, "value_of_neighbour_head"},
    {Mutation::last_head_reads_previous_query, "last_head_reads_previous_query"},
    {Mutation::key_channels_reversed, "key_channels_reversed"},
    {Mutation::wrong_group, "wrong_group"},
    {Mutation::normaliser_misses_last_key, "normaliser_misses_last_key"},
    {Mutation::last_key_dropped, "last_key_dropped"},
    {Mutation::key_64_skipped, "key_64_skipped"},
    {Mutation::key_0_twice, "key_0_twice"},
    {Mutation::denominator_starts_at_1e_3, "denominator_starts_at_1e_3"},
    {Mutation::exp2_without_log2e, "exp2_without_log2e"},
    {Mutation::exp_error_1e_4, "exp_error_1e_4"},
    {Mutation::exp_error_1e_6, "exp_error_1e_6"},
    {Mutation::weights_rounded_to_f16, "weights_rounded_to_f16"},
    {Mutation::scores_rounded_to_bf16, "scores_rounded_to_bf16"},
    {Mutation::output_accumulated_in_bf16, "output_accumulated_in_bf16"},
    {Mutation::stale_last_row, "stale_last_row"},
    {Mutation::one_nan, "one_nan"},
    {Mutation::one_zero, "one_zero"},
    {Mutation::garbage_row_1e_3, "garbage_row_1e_3"},
    {Mutation::stale_accumulator, "stale_accumulator"},
    {Mutation::mean_of_values, "mean_of_values"},
    {Mutation::all_zeros, "all_zeros"},
    {Mutation::empty_row_nan, "empty_row_nan"},
    {Mutation::lse_base_2, "lse_base_2"},
    {Mutation::lse_without_maximum, "lse_without_maximum"},
    {Mutation::relative_sign_wrong, "relative_sign_wrong"},
    {Mutation::shaw_value_ignored, "shaw_value_ignored"},
    {Mutation::shaw_not_clipped_right, "shaw_not_clipped_right"},
    {Mutation::softcap_ignored, "softcap_ignored"},
    {Mutation::bias_inside_softcap, "bias_inside_softcap"},
    {Mutation::gradient_without_tau, "gradient_without_tau"},
    {Mutation::gradient_without_delta, "gradient_without_delta"},
    {Mutation::d_k_of_one_head_of_group, "d_k_of_one_head_of_group"},
    {Mutation::d_v_of_unscaled_weights, "d_v_of_unscaled_weights"},
    {Mutation::softcap_slope_ignored, "softcap_slope_ignored"},
    {Mutation::table_gradient_of_one_head, "table_gradient_of_one_head"},
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

}  // namespace attn
