#pragma once
// What `merge` does and says; `slurm` ends with it too.

#include <string>
#include <vector>

#include "harness/campaign/merge.h"

namespace attn {

/// Merges, and prints what became of it. Returns whether every planned row is there.
bool merge_and_tell(const std::vector<std::string>& folders, const std::string& out,
                    const MergeOptions& options);

}  // namespace attn
