#pragma once
// The multi-head block around any CPU variant: q, k, v = x W_Q, x W_K, x W_V; core; concatenated heads times
// W_O. Projections go through a BLAS. Forward only.

#include "harness/variant.h"

namespace attn {

struct BlockForward {         // float32, contiguous
  const float* x = nullptr;   ///< [batch, seq, model]
  const float* wq = nullptr;  ///< [model, heads_q * head_dim]
  const float* wk = nullptr;  ///< [model, heads_kv * head_dim]
  const float* wv = nullptr;  ///< [model, heads_kv * value_dim]
  const float* wo = nullptr;  ///< [heads_q * value_dim, model]
  Tables tables;
  float* y = nullptr;    ///< [batch, seq, model]
  float* lse = nullptr;  ///< [batch, heads_q, seq]
};

/// Why this problem (scope = block) cannot run around the variant; says nothing of the core itself.
Support block_supports(const Variant& core, const Problem& problem);
void block_plan(const Variant& core, const Context& context, const Problem& problem, Workspace& workspace);
void block_prepare(const Variant& core, const Context& context, const Problem& problem, Workspace& workspace);
void block_forward(const Variant& core, const Context& context, const Problem& problem,
                   const BlockForward& args, Workspace& workspace);
/// FLOPs of the four projections, 2 per multiply-add.
double projection_flops(const Problem& problem);
/// Cost of the core plus the projections.
Cost block_cost(const Variant& core, const Problem& problem);

}  // namespace attn
