// Backward of the tiled kernels; see tiled_attention.h.
//
// A task is a key/value head, or a share of its query blocks where heads are fewer than threads. For each
// query block and visited tile, with P = 2^(logits - LSE) recomputed and dS = P (dO V^T - D), D = dO.O:
//   dV += P^T dO, dK += dS^T Q, dQ += dS K.
// dQ is done when the block is; dK and dV when the head is. Sums over tasks are taken in a fixed order: the
// result does not depend on timing.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "variants/common/tiled_backward.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first.
#include <omp.h>

#include "variants/common/tiled_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

/// One task: query blocks with index % splits == split of all query heads of a key/value head.
struct BackwardTask {
  int64_t index;
  int64_t b, g;
  int64_t split, splits;
  GradientMemory gradients;
  TableMemory tables;
};

float dot(const float* x, const float* y, int64_t width) {
  const Tag f;
  const auto n = static_cast<int64_t>(hn::Lanes(f));
  Vec sum = hn::Zero(f);
  int64_t c = 0;
  for (; c + n <= width; c += n) sum = hn::MulAdd(hn::LoadU(f, x + c), hn::LoadU(f, y + c), sum);
  float total = hn::GetLane(hn::SumOfLanes(f, sum));
  for (; c < width; ++c) total += x[c] * y[c];
  return total;
}

/// out[strips][width][strip] = rows[lanes][padded width], transposed strip by strip.
void transpose_padded(const float* rows, int64_t lanes, int64_t width, float* out) {
  const auto strip = static_cast<int64_t>(strip_width());
  for (int64_t s = 0; s < lanes / strip; ++s) {
    transpose(rows + s * strip * padded_width(width), static_cast<size_t>(padded_width(width)),
              static_cast<size_t>(strip), static_cast<size_t>(width), 1, out + s * strip * width,
              static_cast<size_t>(strip));
  }
}

/// Rows of Q and dO as they are, columns of dO, LSE and D of the block. Rows without visible keys, and lanes
/// past the end, are zero with LSE = +inf, so that P vanishes and no NaN in dO gets through.
void load_gradients(const TiledCall& call, const QueryBlock& block, const Backward& args,
                    const BackwardMemory& memory) {
  const Problem& p = call.p;
  const int64_t strip = call.strip, lanes = block.strips(strip) * strip;
  const int64_t wq = padded_width(p.head_dim), wo = padded_width(p.value_dim);
  std::fill_n(memory.q_rows, lanes * wq, 0.0f);
  std::fill_n(memory.d_o_rows, lanes * wo, 0.0f);
  std::fill_n(memory.lse, lanes, kInfinity);
  std::fill_n(memory.mean, lanes, 0.0f);
  const float* lse = args.lse + (block.b * p.heads_q + block.h) * p.seq_q + block.first;
  for (int64_t r = 0; r < block.count; ++r) {
    if (lse[r] == -kInfinity) continue;
    const int64_t i = block.first + r;
    float *d_o = memory.d_o_rows + r * wo, *o = memory.block.rows;
    read_rotated(call, call.q, block.b, i, block.h, i + p.offset(), memory.q_rows + r * wq);
    load_row(p.dtype, row_at(args.d_o, p.dtype, block.b, i, block.h), p.value_dim, d_o);
    load_row(p.dtype, row_at(args.o, p.dtype, block.b, i, block.h), p.value_dim, o);
    memory.lse[r] = lse[r] * kLog2E;
    memory.mean[r] = dot(d_o, o, p.value_dim);
  }
  transpose_padded(memory.d_o_rows, lanes, p.value_dim, memory.d_o);
}

/// scores := P and d_scores := dS of the score as the mask sees it (bias included).
void make_gradient_scores(const TiledCall& call, int64_t i0, int64_t s, const KeyTile& keys, bool partial,
                          const BackwardMemory& memory) {
  const Tag f;
  const size_t n = hn::Lanes(f);
  const float* lse = memory.lse + s * call.strip;
  const float* mean = memory.mean + s * call.strip;
  const float* skewed =
      call.p.position.shaw_values() ? memory.skewed_values + s * call.skewed_size() : nullptr;
  for (int64_t j = keys.j0; j < keys.j1; ++j) {
    float* scores = memory.block.scores + (j - keys.j0) * call.strip;
    float* d_scores = memory.d_scores + (j - keys.j0) * call.strip;
    for (size_t lane = 0; lane < static_cast<size_t>(call.strip); lane += n) {
      const Vec weight = exp2_fast(hn::Sub(hn::Load(f, scores + lane), hn::Load(f, lse + lane)));
      Vec d_weight = hn::Load(f, d_scores + lane);
      if (skewed) d_weight = hn::Add(d_weight, hn::Load(f, skewed + skewed_row(call, i0, j) + lane));
      Vec d_score = hn::Mul(weight, hn::Sub(d_weight, hn::Load(f, mean + lane)));
      if (partial) d_score = hn::IfThenElseZero(hn::Ne(weight, hn::Zero(f)), d_score);  // 0 * NaN
      hn::Store(weight, f, scores + lane);
      hn::Store(d_score, f, d_scores + lane);
    }
  }
}

/// sums[i - j] += dS, for the gradient of a bias by distance.
void add_bias_gradient(const TiledCall& call, int64_t i0, const KeyTile& keys, const float* d_scores,
                       float* sums) {
  const Tag f;
  for (int64_t j = keys.j0; j < keys.j1; ++j) {
    float* to = sums + (i0 - j);
    const float* row = d_scores + (j - keys.j0) * call.strip;
    for (size_t lane = 0; lane < static_cast<size_t>(call.strip); lane += hn::Lanes(f)) {
      hn::StoreU(hn::Add(hn::LoadU(f, to + lane), hn::Load(f, row + lane)), f, to + lane);
    }
  }
}

void multiply_elements(const float* factors, size_t count, float* values) {
  const Tag f;
  for (size_t e = 0; e < count; e += hn::Lanes(f)) {
    const auto value = hn::Load(f, values + e);  // 0 where hidden: there the factor may be NaN
    hn::Store(hn::IfThenElseZero(hn::Ne(value, hn::Zero(f)), hn::Mul(value, hn::Load(f, factors + e))), f,
              values + e);
  }
}

/// The sums by distance of one (batch entry, head, split); see TiledScratch::bias_sums.
float* bias_sums(const TiledCall& call, const BackwardTask& task, int64_t h) {
  const int64_t row = (task.split * call.p.batch + task.b) * call.p.heads_q + h;
  return call.scratch.bias_sums + row * call.scratch.bias.padded_width();
}

/// Consecutive strips with their P and dS, waiting for dV += P^T dO and dK += dS^T Q.
struct Run {
  int64_t first = 0;  ///< strip
  int64_t count = 0;
};

/// P and dS of one strip, into place `slot` of scores and d_scores, and what follows from them for dQ and
/// tables.
void visit_strip(const TiledCall& call, const QueryBlock& block, const BackwardTask& task, int64_t s,
                 const KeyTile& keys, bool partial, int64_t slot, const BackwardMemory& all, Ahead& ahead) {
  const Problem& p = call.p;
  BackwardMemory memory = all;
  memory.block.scores += slot * call.tiling.key_tile * call.strip;
  memory.d_scores += slot * call.tiling.key_tile * call.strip;
  const int64_t i0 = block.first + s * call.strip;
  const auto d = static_cast<size_t>(p.head_dim), dv = static_cast<size_t>(p.value_dim);
  make_logits<false>(call, block, s, keys, partial, memory.block, nullptr,
                     p.softcap != 0 ? memory.cap_slope : nullptr, ahead);
  product<false>(memory.d_o + s * call.strip * p.value_dim, keys.values, dv, dv, keys.rows(), memory.d_scores,
                 nullptr, ahead);
  make_gradient_scores(call, i0, s, keys, partial, memory);
  if (p.position.shaw_values()) {
    add_by_distance(call, i0, keys, memory.block.scores, memory.histogram + s * call.skewed_size());
  }
  if (p.position.t5()) {
    add_bias_gradient(call, i0, keys, memory.d_scores,
                      bias_sums(call, task, block.h) + call.scratch.bias.zero());
  }
  if (p.softcap != 0) {
    multiply_elements(memory.cap_slope, keys.rows() * static_cast<size_t>(call.strip), memory.d_scores);
  }
  if (p.position.shaw()) {
    add_by_distance(call, i0, keys, memory.d_scores, memory.d_score_sums + s * call.skewed_size());
  }
  float* d_q = memory.d_q + s * call.strip * p.head_dim;
  if (partial && !keys.finite) {
    accumulate<true>(memory.d_scores, keys.keys, d, d, keys.rows(), d_q, ahead);
  } else {
    accumulate<false>(memory.d_scores, keys.keys, d, d, keys.rows(), d_q, ahead);
  }
}

/// dV and dK of the tile from the run's strips, which starts over.
void finish_run(const TiledCall& call, const BackwardTask& task, const KeyTile& keys,
                const BackwardMemory& memory, Run& run, Ahead& ahead) {
  const auto strip = static_cast<size_t>(call.strip), strips = static_cast<size_t>(run.count);
  const size_t first = static_cast<size_t>(run.first) * strip, j0 = static_cast<size_t>(keys.j0);
  const size_t stride = static_cast<size_t>(call.tiling.key_tile) * strip;
  const auto wq = static_cast<size_t>(padded_width(call.p.head_dim)),
             wo = static_cast<size_t>(padded_width(call.p.value_dim));
  outer({memory.block.scores, stride, memory.d_o_rows + first * wo, wo, strips, strip}, keys.rows(), wo,
        task.gradients.d_v + j0 * wo, wo, ahead);
  outer({memory.d_scores, stride, memory.q_rows + first * wq, wq, strips, strip}, keys.rows(), wq,
        task.gradients.d_k + j0 * wq, wq, ahead);
  run.count = 0;
}

void visit_tile(const TiledCall& call, const QueryBlock& block, const BackwardTask& task, const KeyTile& keys,
                const BackwardMemory& memory, Ahead& ahead) {
  Run run;
  for (int64_t s = 0; s < block.strips(call.strip); ++s) {
    const TileKind kind = strip_kind(call, block, s, keys);
    const bool empty = kind == TileKind::empty, full = run.count * call.strip == kOuterQueries;
    if (run.count > 0 && (empty || full)) finish_run(call, task, keys, memory, run, ahead);
    if (empty) continue;
    if (run.count == 0) run.first = s;
    visit_strip(call, block, task, s, keys, kind == TileKind::partial, run.count++, memory, ahead);
  }
  if (run.count > 0) finish_run(call, task, keys, memory, run, ahead);
}

/// What the Shaw terms add to dQ and to the gradients of their tables.
void add_shaw_gradients(const TiledCall& call, const QueryBlock& block, const BackwardTask& task,
                        const BackwardMemory& memory) {
  const Problem& p = call.p;
  const auto rows = static_cast<size_t>(p.position.shaw_rows()), strip = static_cast<size_t>(call.strip);
  const auto d = static_cast<size_t>(p.head_dim);
  const auto wq = static_cast<size_t>(padded_width(p.head_dim)),
             wo = static_cast<size_t>(padded_width(p.value_dim));
  Ahead nothing;
  for (int64_t s = 0; s < block.strips(call.strip); ++s) {
    const size_t first = static_cast<size_t>(s) * strip;
    unskew(call, memory.d_score_sums + s * call.skewed_size(), memory.block.table);
    accumulate<false>(memory.block.table, call.tables.shaw_key, d, d, rows, memory.d_q + first * d, nothing);
    outer({memory.block.table, 0, memory.q_rows + first * wq, wq, 1, strip}, rows, wq, task.tables.d_key, wq,
          nothing);
    if (!p.position.shaw_values()) continue;
    unskew(call, memory.histogram + s * call.skewed_size(), memory.block.table);
    outer({memory.block.table, 0, memory.d_o_rows + first * wo, wo, 1, strip}, rows, wo, task.tables.d_value,
          wo, nothing);
  }
}

void store_d_q(const TiledCall& call, const QueryBlock& block, const Backward& args,
               const BackwardMemory& memory) {
  const Problem& p = call.p;
  const int64_t strip = call.strip, width = p.head_dim;
  HWY_ALIGN float tau[kQueryStep];
  std::fill_n(tau, strip, static_cast<float>(p.softmax_scale()));
  for (int64_t s = 0; s < block.strips(strip); ++s) {
    untranspose_strip(memory.d_q + s * strip * width, static_cast<size_t>(width), tau, memory.block.rows);
    for (int64_t r = s * strip; r < std::min((s + 1) * strip, block.count); ++r) {
      const int64_t i = block.first + r;
      float* row = memory.block.rows + r % strip * width;
      if (!call.scratch.rope.empty()) rotate_row(call.scratch.rope, i + p.offset(), -1, row);
      store_row(p.dtype, row, width, row_at(args.d_q, p.dtype, block.b, i, block.h));
    }
  }
}

void backward_block(const TiledCall& call, const QueryBlock& block, const BackwardTask& task,
                    const Backward& args, const BackwardMemory& memory, int32_t* found) {
  const Problem& p = call.p;
  const int64_t strips = block.strips(call.strip);
  load_queries(call, block, memory.block);
  load_gradients(call, block, args, memory);
  std::fill_n(memory.d_q, strips * call.strip * p.head_dim, 0.0f);
  if (p.position.shaw()) {
    make_skewed(call, block, memory.block.q, call.tables.shaw_key, p.head_dim, memory.block,
                memory.block.skewed);
    std::fill_n(memory.d_score_sums, strips * call.skewed_size(), 0.0f);
  }
  if (p.position.shaw_values()) {
    make_skewed(call, block, memory.d_o, call.tables.shaw_value, p.value_dim, memory.block,
                memory.skewed_values);
    std::fill_n(memory.histogram, strips * call.skewed_size(), 0.0f);
  }
  int64_t count = 0;
  const int32_t* tiles = tiles_of(call, block, found, count);
  for (int64_t t = 0; t < count; ++t) {
    const KeyTile keys = load_tile(call, block, tiles[t], block_partial(call, block, tiles[t]), memory.block);
    Ahead ahead;
    if (t + 1 < count) ahead = read_ahead(call, block, visiting_strips(call, block, keys), tiles[t + 1]);
    visit_tile(call, block, task, keys, memory, ahead);
  }
  if (p.position.shaw()) add_shaw_gradients(call, block, task, memory);
  store_d_q(call, block, args, memory);
}

/// The gradient sums of `task` come from `memory` number `slot`.
BackwardTask make_task(const TiledCall& call, int64_t index, int64_t splits, int64_t slot) {
  BackwardTask task{
      index, index / splits / call.p.heads_kv, index / splits % call.p.heads_kv, index % splits, splits, {},
      {}};
  Carver gradients(call.scratch.gradients + slot * call.scratch.floats_per_gradient);
  task.gradients = GradientMemory::carve(gradients, call.p);
  Carver tables(call.scratch.table_sums + index * call.scratch.floats_per_table);
  task.tables = TableMemory::carve(tables, call.p);
  return task;
}

void run_task(const TiledCall& call, const BackwardTask& task, const Backward& args) {
  const Problem& p = call.p;
  const int thread = omp_get_thread_num();
  std::fill_n(task.gradients.d_k, call.scratch.floats_per_gradient, 0.0f);
  std::fill_n(call.scratch.table_sums + task.index * call.scratch.floats_per_table,
              call.scratch.floats_per_table, 0.0f);
  Carver carver(call.scratch.blocks + thread * call.scratch.floats_per_block);
  const BackwardMemory memory = BackwardMemory::carve(carver, p, call.tiling);
  int32_t* found = call.scratch.tile_lists + thread * call.tiling.key_tiles(p);
  for (int64_t h = task.g * p.group(); h < (task.g + 1) * p.group(); ++h) {
    if (p.position.t5()) std::fill_n(bias_sums(call, task, h), call.scratch.bias.padded_width(), 0.0f);
    for (int64_t index = task.split; index < call.tiling.query_blocks(p); index += task.splits) {
      backward_block(call, call.block(task.b, h, index), task, args, memory, found);
    }
  }
}

/// sums[width] = the rows of `splits` accumulators, added in order, times `factor`.
void add_splits(const TiledCall& call, const float* first, int64_t splits, int64_t width, float factor,
                float* HWY_RESTRICT sums) {
  for (int64_t c = 0; c < width; ++c) sums[c] = first[c] * factor;
  for (int64_t split = 1; split < splits; ++split) {
    const float* HWY_RESTRICT from = first + split * call.scratch.floats_per_gradient;
    for (int64_t c = 0; c < width; ++c) sums[c] += from[c] * factor;
  }
}

/// dK and dV of keys [j0, j1) of one key/value head: the sums of its `splits` tasks, beginning with `first`.
/// `buffer` [larger of head_dim and value_dim].
void store_keys(const TiledCall& call, const BackwardTask& first, int64_t j0, int64_t j1,
                const Backward& args, float* buffer) {
  const Problem& p = call.p;
  const auto tau = static_cast<float>(p.softmax_scale());
  const int64_t wq = padded_width(p.head_dim), wo = padded_width(p.value_dim);
  for (int64_t j = j0; j < j1; ++j) {
    add_splits(call, first.gradients.d_k + j * wq, first.splits, p.head_dim, tau, buffer);
    if (!call.scratch.rope.empty()) rotate_row(call.scratch.rope, j, -1, buffer);
    store_row(p.dtype, buffer, p.head_dim, row_at(args.d_k, p.dtype, first.b, j, first.g));
    add_splits(call, first.gradients.d_v + j * wo, first.splits, p.value_dim, 1, buffer);
    store_row(p.dtype, buffer, p.value_dim, row_at(args.d_v, p.dtype, first.b, j, first.g));
  }
}

/// gradient[rows][width] = factor times the sum of all tasks' padded rows.
void store_table(const TiledCall& call, int64_t tasks, const float* sums, int64_t width, float factor,
                 float* gradient) {
  const int64_t padded = padded_width(width);
  for (int64_t x = 0; x < call.p.position.shaw_rows(); ++x) {
    for (int64_t c = 0; c < width; ++c) {
      float sum = 0;
      for (int64_t t = 0; t < tasks; ++t) sum += sums[t * call.scratch.floats_per_table + x * padded + c];
      gradient[x * width + c] = sum * factor;
    }
  }
}

void store_tables(const TiledCall& call, int64_t tasks, int64_t splits, const Backward& args) {
  const Problem& p = call.p;
  const TableMemory first = make_task(call, 0, 1, 0).tables;
  const auto tau = static_cast<float>(p.softmax_scale());
  if (p.position.shaw()) store_table(call, tasks, first.d_key, p.head_dim, tau, args.d_tables.shaw_key);
  if (p.position.shaw_values())
    store_table(call, tasks, first.d_value, p.value_dim, 1, args.d_tables.shaw_value);
  if (!p.position.t5()) return;
  std::fill_n(args.d_tables.t5_bias, p.position.buckets * p.heads_q, 0.0f);
  for (int64_t row = 0; row < splits * p.batch * p.heads_q; ++row) {
    call.scratch.bias.add_table_gradient(p, row % p.heads_q,
                                         call.scratch.bias_sums + row * call.scratch.bias.padded_width(),
                                         args.d_tables.t5_bias);
  }
}

void backward_all(const Context& context, const Problem& p, const Backward& args, const Tiling& tiling,
                  const TileLists& lists, const TiledScratch& scratch) {
  const TiledCall call{p, tiling, lists, scratch, args.q, args.k, args.v, args.tables};
  const int64_t splits = backward_splits(context, p), heads = p.batch * p.heads_kv, tasks = heads * splits;
  const auto buffer = [&] { return scratch.blocks + omp_get_thread_num() * scratch.floats_per_block; };
#pragma omp parallel for num_threads(context.threads) schedule(dynamic)
  for (int64_t index = 0; index < tasks; ++index) {
    const BackwardTask task = make_task(call, index, splits, splits > 1 ? index : omp_get_thread_num());
    run_task(call, task, args);
    if (splits == 1) store_keys(call, task, 0, p.seq_kv, args, buffer());
  }
  if (splits > 1) {
    constexpr int64_t kChunk = 256;  // keys
    const int64_t chunks = (p.seq_kv + kChunk - 1) / kChunk;
#pragma omp parallel for num_threads(context.threads) schedule(static)
    for (int64_t piece = 0; piece < heads * chunks; ++piece) {
      const int64_t head = piece / chunks, j0 = piece % chunks * kChunk;
      const BackwardTask first = make_task(call, head * splits, splits, head * splits);
      store_keys(call, first, j0, std::min(j0 + kChunk, p.seq_kv), args, buffer());
    }
  }
  store_tables(call, tasks, splits, args);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attn {

HWY_EXPORT(backward_all);

void tiled_backward(const Context& context, const Problem& p, const Backward& args, const Tiling& tiling,
                    const TileLists& lists, const TiledScratch& scratch) {
  scratch.bias.fill(p, args.tables, std::numbers::log2e, context.threads);
  HWY_DYNAMIC_DISPATCH(backward_all)(context, p, args, tiling, lists, scratch);
}

}  // namespace attn
#endif
