// Every registered variant keeps the relations of attention; a broken kernel does not.

#include "harness/oracle/properties.h"

#include "harness/oracle/control_kernel.h"
#include "harness/registry.h"
#include "tests/catch.h"

using namespace attn;

TEST_CASE("every variant keeps every property") {
  for (const PropertyReport& report : check_properties(all_variants(), 1, 1)) {
    INFO(report.property);
    CHECK(report.runs > 0);
    for (const std::string& failure : report.failures) FAIL_CHECK(failure);
  }
}

namespace {

/// Names of the properties that a planted error breaks.
std::vector<std::string> broken_by(Mutation mutation) {
  const auto control = make_control(mutation);
  std::vector<std::string> names;
  for (const PropertyReport& report : check_properties({control.get()}, 1, 1)) {
    if (!report.failures.empty()) names.push_back(report.property);
  }
  return names;
}

}  // namespace

TEST_CASE("properties hold for the correct control and break for wrong ones") {
  CHECK(broken_by(Mutation::none).empty());
  for (Mutation mutation :
       {Mutation::denominator_starts_at_1e_3, Mutation::last_key_dropped, Mutation::mask_ignored,
        Mutation::mask_off_by_one, Mutation::value_of_neighbour_head, Mutation::key_0_twice,
        Mutation::wrong_group, Mutation::lse_base_2, Mutation::masked_values_times_zero,
        Mutation::gradient_without_delta, Mutation::d_k_of_one_head_of_group,
        Mutation::d_v_of_unscaled_weights}) {
    INFO(to_text(mutation));
    CHECK_FALSE(broken_by(mutation).empty());
  }
}
