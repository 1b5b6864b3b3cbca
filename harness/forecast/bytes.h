#pragma once
// Bytes that a (problem, variant) will need, exact for the harness's own allocations and for what plan()
// books.

#include <cstddef>
#include <optional>

#include "harness/variant.h"

namespace attn {

/// Host memory a point needs before any variant: inputs, and the oracle's float64 copies, results and bounds.
size_t shared_bytes(const Problem& problem);
/// What a variant adds: operands and planned workspace; for a backward also that of its own forward,
/// whichever is larger, and the copies of outputs that are compared.
size_t variant_bytes(const Variant& variant, const Problem& problem, int threads);
/// Operands and planned workspace of one call, in the memory of the variant's device.
size_t call_bytes(const Variant& variant, const Problem& problem, int threads);
/// Forecast of memory_process_peak_bytes: how much the process grows when a variant is bound and called once,
/// every operand and the workspace in whole pages. Nothing for a GPU, and for a variant that does not book
/// its scratch.
std::optional<size_t> process_growth_bytes(const Variant& variant, const Problem& problem, int threads);

}  // namespace attn
