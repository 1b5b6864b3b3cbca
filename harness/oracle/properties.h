#pragma once
// Relations that hold whatever the values are: no truth is needed to state them, its bound only says how
// exactly float32 can keep them. They catch what a shared misreading of the definition would hide from the
// oracle.

#include <string>
#include <vector>

#include "harness/run/launch.h"
#include "harness/variant.h"

namespace attn {

struct PropertyReport {
  std::string property;
  int64_t runs = 0;  ///< (variant, problem) pairs
  int64_t unsupported = 0;
  std::vector<std::string> failures;  ///< variant, problem and what differs
};

std::vector<PropertyReport> check_properties(const std::vector<const Variant*>& variants, uint64_t seed,
                                             int threads, LaunchMode launch = LaunchMode::stream);

}  // namespace attn
