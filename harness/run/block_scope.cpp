#include "harness/run/block_scope.h"

#include "harness/run/blas.h"

namespace attn {
namespace {

struct Activations {
  float *q, *k, *v, *o;  // [batch, seq, head, width]
};

Activations take_activations(const Problem& p, Workspace& workspace) {
  const int64_t rows = p.batch * p.seq_q;
  Activations a;
  a.q = workspace.take<float>("block q", rows * p.heads_q * p.head_dim);
  a.k = workspace.take<float>("block k", rows * p.heads_kv * p.head_dim);
  a.v = workspace.take<float>("block v", rows * p.heads_kv * p.value_dim);
  a.o = workspace.take<float>("block o", rows * p.heads_q * p.value_dim);
  return a;
}

}  // namespace

Support block_supports(const Variant& core, const Problem& problem) {
  if (core.info().device != Device::cpu) return {"block scope runs on the CPU only"};
  if (problem.pass == Pass::bwd) return {"block scope has no backward"};
  if (problem.dtype != Dtype::f32) return {"block scope is float32 only"};
  return {};
}

void block_plan(const Variant& core, const Context& context, const Problem& problem, Workspace& workspace) {
  take_activations(problem, workspace);
  core.plan(context, problem.with(Scope::core), workspace);
}

void block_prepare(const Variant& core, const Context& context, const Problem& problem,
                   Workspace& workspace) {
  take_activations(problem, workspace);
  core.prepare(context, problem.with(Scope::core), workspace);
}

void block_forward(const Variant& core, const Context& context, const Problem& p, const BlockForward& args,
                   Workspace& workspace) {
  const Activations a = take_activations(p, workspace);
  const int64_t rows = p.batch * p.seq_q, model = p.model_width();
  set_blas_threads(context.threads);
  multiply(rows, p.heads_q * p.head_dim, model, args.x, args.wq, a.q);
  multiply(rows, p.heads_kv * p.head_dim, model, args.x, args.wk, a.k);
  multiply(rows, p.heads_kv * p.value_dim, model, args.x, args.wv, a.v);
  Forward inner;
  inner.q = contiguous<const void>(a.q, p.seq_q, p.heads_q, p.head_dim);
  inner.k = contiguous<const void>(a.k, p.seq_kv, p.heads_kv, p.head_dim);
  inner.v = contiguous<const void>(a.v, p.seq_kv, p.heads_kv, p.value_dim);
  inner.tables = args.tables;
  inner.o = contiguous<void>(a.o, p.seq_q, p.heads_q, p.value_dim);
  inner.lse = args.lse;
  core.forward(context, p.with(Scope::core), inner, workspace);
  multiply(rows, model, p.heads_q * p.value_dim, a.o, args.wo, args.y);
}

double projection_flops(const Problem& p) {
  const auto rows = static_cast<double>(p.batch * p.seq_q);
  const auto width =
      static_cast<double>(p.heads_q * (p.head_dim + p.value_dim) + p.heads_kv * (p.head_dim + p.value_dim));
  return 2 * rows * static_cast<double>(p.model_width()) * width;
}

Cost block_cost(const Variant& core, const Problem& p) {
  Cost cost = core.cost(p.with(Scope::core));
  cost.flops_executed += projection_flops(p);
  const auto rows = static_cast<double>(p.batch * p.seq_q), model = static_cast<double>(p.model_width());
  const auto widths = static_cast<double>((p.heads_q + p.heads_kv) * (p.head_dim + p.value_dim));
  cost.bytes_moved +=
      4 * (4 * rows * model + widths * (model + rows));  // x three times, y, weights, activations
  cost.time_order += " + O(n D^2)";
  cost.memory_order = "O(n D) + " + cost.memory_order;
  return cost;
}

}  // namespace attn
