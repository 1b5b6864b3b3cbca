#pragma once
// The columns of a row that are known before anything runs.

#include "harness/campaign/protocol.h"
#include "harness/variant.h"

namespace attn {

/// Identity, shape, theory and repro of (job, variant); status is left to the caller.
ResultRow describe_row(const Job& job, const Problem& problem, const Variant& variant);
/// The same where the shape is no valid problem: without theory.
ResultRow describe_skipped(const Job& job, const Problem& shape, const Variant& variant);
/// The command that measures this row again, and nothing else.
std::string repro_command(const Job& job, const std::string& variant);

}  // namespace attn
