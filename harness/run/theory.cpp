#include "harness/run/theory.h"

#include "harness/run/block_scope.h"
#include "harness/run/operands.h"

namespace attn {
namespace {

double visible_scores(const Problem& p) {
  return static_cast<double>(visible_pairs(p)) * static_cast<double>(p.heads_q);
}

}  // namespace

double useful_exps(const Problem& p) { return visible_scores(p); }

double useful_flops(const Problem& p) {
  const double pairs = visible_scores(p);
  const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
  const double core = p.pass == Pass::fwd ? 2 * (d + dv) * pairs : 2 * (3 * d + 2 * dv) * pairs;
  return p.scope == Scope::block ? core + projection_flops(p) : core;
}

double compulsory_bytes(const Problem& p) { return static_cast<double>(operand_bytes(p)); }

}  // namespace attn
