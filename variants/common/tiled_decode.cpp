// Few queries against many keys: forward only. The roles are swapped: vectors run along keys, and the queries
// that share a key/value head (seq_q times the group) are the rows that enter as broadcasts. So every key and
// value is read once for all of them, and the micro-kernels are those of the other passes.
//
// Keys are split into chunks of fixed length, whatever the number of threads; each chunk leaves O, maximum
// and sum, and the chunks are merged in order (variants catalogue 2.7). The result does not depend on the
// threads. Time O(h n d), bound by the reading of K and V; workspace O(n / chunk). Flash-decoding: Dao,
// Haziza, Massa and Sizov 2023.

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "variants/common/tiled_decode.cpp"
#include <hwy/foreach_target.h>
// foreach_target must come first.
#include <omp.h>

#include "variants/common/tiled_block-inl.h"

HWY_BEFORE_NAMESPACE();
namespace attn {
namespace HWY_NAMESPACE {
namespace {

/// Keys whose rows are read ahead while a strip is computed: the latency of memory is several strips long.
inline constexpr int64_t kKeysAhead = 64;

/// The queries of one key/value head against keys [begin, end).
struct DecodeTask {
  int64_t b, g, begin, end;
};

class DecodeChunk {
 public:
  DecodeChunk(const TiledCall& call, const DecodeTask& task, const DecodeMemory& memory,
              const PartialMemory& partial)
      : call_(call),
        p_(call.p),
        task_(task),
        memory_(memory),
        partial_(partial),
        rows_(decode_rows(call.p)) {}

  void run() {
    load_rows();
    std::fill_n(partial_.o, rows_ * padded_width(p_.value_dim), 0.0f);
    std::fill_n(partial_.maximum, rows_, -kInfinity);
    std::fill_n(partial_.sum, rows_, 0.0f);
    for (int64_t j0 = task_.begin; j0 < task_.end; j0 += call_.strip) {
      const int64_t j1 = std::min(j0 + call_.strip, task_.end);
      read_ahead(j0 + kKeysAhead);
      if (sees_any(j0, j1)) visit_strip(j0, j1);
    }
  }

 private:
  int64_t query_of(int64_t row) const { return row % p_.seq_q; }
  int64_t head_of(int64_t row) const { return task_.g * p_.group() + row / p_.seq_q; }

  /// Scaled and rotated queries, row by row; the range of keys each may see.
  void load_rows() {
    const float scale = call_.query_scale();
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t i = query_of(r);
      float* row = memory_.q + r * p_.head_dim;
      read_rotated(call_, call_.q, task_.b, i, head_of(r), i + p_.offset(), row);
      for (int64_t c = 0; c < p_.head_dim; ++c) row[c] *= scale;
      const KeyRange range = call_.rule.row_range(task_.b, i);
      memory_.begin[r] = range.begin;
      memory_.end[r] = range.end;
    }
  }

  bool sees_any(int64_t j0, int64_t j1) const {
    for (int64_t r = 0; r < rows_; ++r) {
      if (memory_.begin[r] < j1 && memory_.end[r] > j0) return true;
    }
    return false;
  }
  bool sees_all(int64_t r, int64_t j0, int64_t j1) const {
    return memory_.begin[r] <= j0 && memory_.end[r] >= j1;
  }

  /// Rows of one strip that begins at `j0`, within this chunk.
  void read_ahead(int64_t j0) const {
    const auto bytes = static_cast<int64_t>(bytes_of(p_.dtype));
    for (int64_t j = j0; j < std::min(j0 + call_.strip, task_.end); ++j) {
      const char* key = static_cast<const char*>(row_at(call_.k, p_.dtype, task_.b, j, task_.g));
      const char* value = static_cast<const char*>(row_at(call_.v, p_.dtype, task_.b, j, task_.g));
      for (int64_t c = 0; c < p_.head_dim * bytes; c += 64) __builtin_prefetch(key + c);
      for (int64_t c = 0; c < p_.value_dim * bytes; c += 64) __builtin_prefetch(value + c);
    }
  }

  void visit_strip(int64_t j0, int64_t j1) {
    Ahead nothing;
    const auto d = static_cast<size_t>(p_.head_dim), strip = static_cast<size_t>(call_.strip);
    transpose_keys(j0, j1);
    product<false>(memory_.keys, memory_.q, d, d, static_cast<size_t>(rows_), memory_.scores, nullptr,
                   nothing);
    bool partial = false;
    for (int64_t r = 0; r < rows_; ++r) {
      float* scores = memory_.scores + r * call_.strip;
      finish_scores(r, j0, j1, scores);
      partial = partial || !sees_all(r, j0, j1);
      weigh(r, scores);
    }
    const float* values = memory_.values;
    size_t stride = static_cast<size_t>(padded_width(p_.value_dim));
    if (p_.dtype == Dtype::f32 && p_.value_dim == padded_width(p_.value_dim)) {
      values = call_.v.row<float>(task_.b, j0, task_.g);
      stride = static_cast<size_t>(call_.v.seq_stride);
    } else {
      load_values(j0, j1);
    }
    if (partial && !finite_values(values, stride, j1 - j0))
      return add_visible_values(values, stride, j1 - j0);
    outer({memory_.scores, strip, values, stride, 1, static_cast<size_t>(j1 - j0)},
          static_cast<size_t>(rows_), static_cast<size_t>(padded_width(p_.value_dim)), partial_.o,
          static_cast<size_t>(padded_width(p_.value_dim)), nothing);
  }

  /// keys[head_dim][strip]; lanes past the end are zero.
  void transpose_keys(int64_t j0, int64_t j1) {
    const auto d = static_cast<size_t>(p_.head_dim), strip = static_cast<size_t>(call_.strip);
    const float* rows = memory_.rows;
    size_t stride = d;
    if (p_.dtype == Dtype::f32 && call_.scratch.rope.empty() && j1 - j0 == call_.strip) {
      rows = call_.k.row<float>(task_.b, j0, task_.g);
      stride = static_cast<size_t>(call_.k.seq_stride);
    } else {
      for (int64_t lane = 0; lane < call_.strip; ++lane) {
        float* row = memory_.rows + lane * p_.head_dim;
        if (j0 + lane < j1) {
          read_rotated(call_, call_.k, task_.b, j0 + lane, task_.g, j0 + lane, row);
        } else {
          std::fill_n(row, p_.head_dim, 0.0f);
        }
      }
    }
    transpose(rows, stride, strip, d, 1, memory_.keys, strip);
  }

  void load_values(int64_t j0, int64_t j1) {
    const int64_t stride = padded_width(p_.value_dim);
    for (int64_t j = j0; j < j1; ++j) {
      float* row = memory_.values + (j - j0) * stride;
      load_row(p_.dtype, row_at(call_.v, p_.dtype, task_.b, j, task_.g), p_.value_dim, row);
      std::fill(row + p_.value_dim, row + stride, 0.0f);
    }
  }

  /// Softcap, bias and mask of one row, as logits in powers of two.
  void finish_scores(int64_t r, int64_t j0, int64_t j1, float* HWY_RESTRICT scores) {
    const Tag f;
    const int64_t n = static_cast<int64_t>(hn::Lanes(f));
    if (p_.softcap != 0) {
      const Vec cap = hn::Set(f, static_cast<float>(p_.softcap * std::numbers::log2e));
      for (int64_t k = 0; k < call_.strip; k += n) {
        hn::Store(hn::Mul(hn::Tanh(f, hn::Load(f, scores + k)), cap), f, scores + k);
      }
    }
    if (!call_.scratch.bias.empty()) {
      const float* bias = call_.scratch.bias.row(head_of(r)) + query_of(r);
      for (int64_t k = 0; k < j1 - j0; ++k) scores[k] += kLog2E * bias[-(j0 + k)];
    }
    if (j1 - j0 == call_.strip && sees_all(r, j0, j1)) return;
    for (int64_t k = 0; k < call_.strip; ++k) {
      const int64_t j = j0 + k;
      if (j >= j1 || j < memory_.begin[r] || j >= memory_.end[r]) scores[k] = -kInfinity;
    }
  }

  /// scores := 2^(scores - maximum) of one row; the maximum moves as in the other forward.
  void weigh(int64_t r, float* HWY_RESTRICT scores) {
    const Tag f;
    const size_t n = hn::Lanes(f), strip = static_cast<size_t>(call_.strip);
    Vec largest = hn::Load(f, scores);
    for (size_t k = n; k < strip; k += n) largest = hn::Max(largest, hn::Load(f, scores + k));
    const float found = hn::GetLane(hn::MaxOfLanes(f, largest));
    if (found > partial_.maximum[r] + kLazyMargin) {
      const float factor = std::exp2(partial_.maximum[r] - found);
      float* o = partial_.o + r * padded_width(p_.value_dim);
      for (int64_t c = 0; c < padded_width(p_.value_dim); ++c) o[c] *= factor;
      partial_.sum[r] *= factor;
      partial_.maximum[r] = found;
    }
    const Vec shift = hn::Set(f, partial_.maximum[r] == -kInfinity ? 0.0f : partial_.maximum[r]);
    Vec total = hn::Zero(f);
    for (size_t k = 0; k < strip; k += n) {
      const Vec weight = exp2_fast(hn::Sub(hn::Load(f, scores + k), shift));
      hn::Store(weight, f, scores + k);
      total = hn::Add(total, weight);
    }
    partial_.sum[r] += hn::GetLane(hn::SumOfLanes(f, total));
  }

  bool finite_values(const float* values, size_t stride, int64_t keys) const {
    for (int64_t k = 0; k < keys; ++k) {
      if (!all_finite(values + static_cast<size_t>(k) * stride, p_.value_dim)) return false;
    }
    return true;
  }

  /// As `outer`, without the pairs of zero weight: a value that is hidden from one row may be NaN.
  void add_visible_values(const float* values, size_t stride, int64_t keys) {
    for (int64_t r = 0; r < rows_; ++r) {
      float* o = partial_.o + r * padded_width(p_.value_dim);
      for (int64_t k = 0; k < keys; ++k) {
        const float weight = memory_.scores[r * call_.strip + k];
        if (weight == 0) continue;
        const float* value = values + static_cast<size_t>(k) * stride;
        for (int64_t c = 0; c < p_.value_dim; ++c) o[c] += weight * value[c];
      }
    }
  }

  const TiledCall& call_;
  const Problem& p_;
  const DecodeTask task_;
  const DecodeMemory memory_;
  const PartialMemory partial_;
  const int64_t rows_;
};

/// O and LSE of one row from all chunks, in their order. `buffer` [value_dim].
void merge_row(const TiledCall& call, int64_t b, int64_t h, int64_t i, const Forward& args, float* buffer) {
  const Problem& p = call.p;
  const int64_t chunks = decode_chunks(p), row = h % p.group() * p.seq_q + i;
  const auto part = [&](int64_t chunk) {
    Carver carver(call.scratch.partials + (chunk * p.batch * p.heads_kv + b * p.heads_kv + h / p.group()) *
                                              call.scratch.floats_per_partial);
    return PartialMemory::carve(carver, p);
  };
  float maximum = -kInfinity, sum = 0;
  for (int64_t chunk = 0; chunk < chunks; ++chunk) maximum = std::max(maximum, part(chunk).maximum[row]);
  std::fill_n(buffer, p.value_dim, 0.0f);
  for (int64_t chunk = 0; chunk < chunks; ++chunk) {
    const PartialMemory partial = part(chunk);
    if (partial.sum[row] == 0) continue;
    const float factor = std::exp2(partial.maximum[row] - maximum);
    sum += factor * partial.sum[row];
    const float* o = partial.o + row * padded_width(p.value_dim);
    for (int64_t c = 0; c < p.value_dim; ++c) buffer[c] += factor * o[c];
  }
  for (int64_t c = 0; c < p.value_dim && sum != 0; ++c) buffer[c] /= sum;
  store_row(p.dtype, buffer, p.value_dim, row_at(args.o, p.dtype, b, i, h));
  args.lse[(b * p.heads_q + h) * p.seq_q + i] = sum == 0 ? -kInfinity : maximum * kLn2 + std::log(sum);
}

void decode_all(const Context& context, const Problem& p, const Forward& args, const TiledScratch& scratch) {
  const Tiling tiling{kQueryStep, kKeyTile};
  const TileLists lists;
  const TiledCall call{p, tiling, lists, scratch, args.q, args.k, args.v, args.tables};
  const int64_t units = p.batch * p.heads_kv;
#pragma omp parallel num_threads(context.threads)
  {
    Carver block(scratch.blocks + omp_get_thread_num() * scratch.floats_per_block);
    const DecodeMemory memory = DecodeMemory::carve(block, p);
    // All heads of a chunk before the next chunk: their rows are neighbours in memory.
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < decode_chunks(p) * units; ++index) {
      const int64_t begin = index / units * kDecodeChunk, unit = index % units;
      const DecodeTask task{unit / p.heads_kv, unit % p.heads_kv, begin,
                            std::min(begin + kDecodeChunk, p.seq_kv)};
      Carver carver(scratch.partials + index * scratch.floats_per_partial);
      DecodeChunk(call, task, memory, PartialMemory::carve(carver, p)).run();
    }
#pragma omp for schedule(static)
    for (int64_t row = 0; row < p.batch * p.heads_q * p.seq_q; ++row) {
      const int64_t head = row / p.seq_q;
      merge_row(call, head / p.heads_q, head % p.heads_q, row % p.seq_q, args, memory.values);
    }
  }
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace attn
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace attn {

HWY_EXPORT(decode_all);

void tiled_decode(const Context& context, const Problem& p, const Forward& args,
                  const TiledScratch& scratch) {
  HWY_DYNAMIC_DISPATCH(decode_all)(context, p, args, scratch);
}

}  // namespace attn
#endif
