#include "harness/forecast/bytes.h"

#include <algorithm>

#include "harness/run/binding.h"
#include "harness/run/operands.h"

namespace attn {
namespace {

size_t elements_of(const std::vector<Operand>& operands) {
  size_t total = 0;
  for (const Operand& operand : operands) total += static_cast<size_t>(operand.elements());
  return total;
}

size_t result_elements(const Problem& problem) {
  size_t total = elements_of(forward_results(problem));
  if (problem.pass == Pass::bwd) total += elements_of(gradients(problem));
  return total;
}

/// Pages that an allocation of the harness touches: its own, and the one of the allocator's header in front.
/// Below the allocator's limit for mappings of their own (PeakProbe sets it) memory may come from pages that
/// are there already: counted as it is.
size_t touched_bytes(size_t bytes) {
  constexpr size_t kMapped = size_t{128} << 10, kPage = 4096;
  if (bytes < kMapped) return bytes;
  return (bytes + kPage - 1) / kPage * kPage + kPage;
}

size_t touched_bytes(const std::vector<Operand>& operands, Dtype dtype) {
  size_t total = 0;
  for (const Operand& operand : operands) total += touched_bytes(operand.bytes(dtype));
  return total;
}

}  // namespace

size_t shared_bytes(const Problem& problem) {
  return (4 + 8) * elements_of(input_operands(problem)) + 2 * 8 * result_elements(problem);
}

size_t variant_bytes(const Variant& variant, const Problem& problem, int threads) {
  size_t workspace = planned_workspace_bytes(variant, problem, threads);
  if (problem.pass == Pass::bwd) {
    workspace = std::max(workspace, planned_workspace_bytes(variant, problem.with(Pass::fwd), threads));
  }
  return operand_bytes(problem) + workspace + 2 * 4 * result_elements(problem);
}

size_t call_bytes(const Variant& variant, const Problem& problem, int threads) {
  return operand_bytes(problem) + planned_workspace_bytes(variant, problem, threads);
}

std::optional<size_t> process_growth_bytes(const Variant& variant, const Problem& problem, int threads) {
  if (variant.info().device != Device::cpu || !variant.info().books_scratch) return std::nullopt;
  size_t total = touched_bytes(input_operands(problem), problem.dtype) +
                 touched_bytes(forward_results(problem), problem.dtype) +
                 touched_bytes(planned_workspace_bytes(variant, problem, threads));
  if (problem.pass == Pass::bwd) total += touched_bytes(gradients(problem), problem.dtype);
  return total;
}

}  // namespace attn
