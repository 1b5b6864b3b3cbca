#pragma once
// The end of a campaign: fits, figures, and where everything is.

#include <string>

namespace attn {

/// Writes fits and, where wanted, the report of a complete folder, and prints what the folder holds and says.
/// Returns the exit code: 1 where the figures could not be drawn.
int finish(const std::string& folder, bool wants_report);

}  // namespace attn
