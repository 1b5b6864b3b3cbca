#include "harness/run/theory.h"

#include "harness/run/block_scope.h"
#include "harness/run/operands.h"

namespace attn {

double useful_flops(const Problem& p) {
  const auto pairs = static_cast<double>(visible_pairs(p)) * static_cast<double>(p.heads_q);
  const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
  const double core = p.pass == Pass::fwd ? 2 * (d + dv) * pairs : 2 * (3 * d + 2 * dv) * pairs;
  return p.scope == Scope::block ? core + projection_flops(p) : core;
}

double compulsory_bytes(const Problem& p) { return static_cast<double>(operand_bytes(p)); }

}  // namespace attn
