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

/// Up to so many rows a scalar product for each key is cheaper than transposing the keys.
inline constexpr int64_t kDotRows = 8;

/// Values are added for so many keys at once: between them, rows are read ahead.
inline constexpr int64_t kValueKeys = 8;

/// The queries of one key/value head against the keys of a chunk, strip by strip.
class DecodeHead {
 public:
  DecodeHead(const TiledCall& call, int64_t b, int64_t g, const DecodeMemory& memory,
             const PartialMemory& partial)
      : call_(call),
        p_(call.p),
        b_(b),
        g_(g),
        memory_(memory),
        partial_(partial),
        rows_(decode_rows(call.p)) {}

  void start() {
    load_rows();
    std::fill_n(partial_.o, rows_ * padded_width(p_.value_dim), 0.0f);
    std::fill_n(partial_.maximum, rows_, -kInfinity);
    std::fill_n(partial_.sum, rows_, 0.0f);
  }

  /// Keys [j0, j1), at most a strip.
  void visit_strip(int64_t j0, int64_t j1, Ahead& ahead) {
    if (!sees_any(j0, j1)) return;
    const auto strip = static_cast<size_t>(call_.strip);
    const KeyRows keys = key_rows(j0, j1);
    if (rows_ <= kDotRows) {
      dot_scores(keys, ahead);
    } else {
      transposed_scores(keys, ahead);
    }
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
      values = call_.v.row<float>(b_, j0, g_);
      stride = static_cast<size_t>(call_.v.seq_stride);
    } else {
      load_values(j0, j1);
    }
    if (partial && !finite_values(values, stride, j1 - j0))
      return add_visible_values(values, stride, j1 - j0);
    const auto width = static_cast<size_t>(padded_width(p_.value_dim));
    for (int64_t k = 0; k < j1 - j0; k += kValueKeys) {
      const auto keys_now = static_cast<size_t>(std::min(kValueKeys, j1 - j0 - k));
      outer({memory_.scores + k, strip, values + static_cast<size_t>(k) * stride, stride, 1, keys_now},
            static_cast<size_t>(rows_), width, partial_.o, width, ahead);
    }
  }

 private:
  int64_t query_of(int64_t row) const { return row % p_.seq_q; }
  int64_t head_of(int64_t row) const { return g_ * p_.group() + row / p_.seq_q; }

  /// Scaled and rotated queries, row by row; the range of keys each may see.
  void load_rows() {
    const float scale = call_.query_scale();
    for (int64_t r = 0; r < rows_; ++r) {
      const int64_t i = query_of(r);
      float* row = memory_.q + r * padded_width(p_.head_dim);
      read_rotated(call_, call_.q, b_, i, head_of(r), i + p_.offset(), row);
      for (int64_t c = 0; c < p_.head_dim; ++c) row[c] *= scale;
      std::fill(row + p_.head_dim, row + padded_width(p_.head_dim), 0.0f);
      const KeyRange range = call_.rule.row_range(b_, i);
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

  /// A strip of keys, each followed by zeros up to the padded width: where they lie, or a copy.
  struct KeyRows {
    const float* data;
    size_t stride;
  };
  KeyRows key_rows(int64_t j0, int64_t j1) const {
    const int64_t width = padded_width(p_.head_dim);
    const bool as_they_are = p_.dtype == Dtype::f32 && call_.scratch.rope.empty() && width == p_.head_dim;
    if (as_they_are && j1 - j0 == call_.strip) {
      return {call_.k.row<float>(b_, j0, g_), static_cast<size_t>(call_.k.seq_stride)};
    }
    if (j1 - j0 < call_.strip || width > p_.head_dim) std::fill_n(memory_.rows, call_.strip * width, 0.0f);
    for (int64_t j = j0; j < j1; ++j) {
      read_rotated(call_, call_.k, b_, j, g_, j, memory_.rows + (j - j0) * width);
    }
    return {memory_.rows, static_cast<size_t>(width)};
  }

  /// scores[row][strip] of few rows: vectors along the channels, four keys at a time.
  void dot_scores(const KeyRows& keys, Ahead& ahead) const {
    const Tag f;
    const size_t n = hn::Lanes(f), strip = static_cast<size_t>(call_.strip);
    const auto width = static_cast<size_t>(padded_width(p_.head_dim));
    for (size_t k = 0; k < strip; k += 4) {
      ahead.step();
      const float* rows = keys.data + k * keys.stride;
      for (int64_t r = 0; r < rows_; ++r) {
        const float* q = memory_.q + r * static_cast<int64_t>(width);
        Vec v0 = hn::Zero(f), v1 = v0, v2 = v0, v3 = v0;
        for (size_t c = 0; c < width; c += n) {
          const Vec x = hn::Load(f, q + c);
          v0 = hn::MulAdd(x, hn::LoadU(f, rows + c), v0);
          v1 = hn::MulAdd(x, hn::LoadU(f, rows + keys.stride + c), v1);
          v2 = hn::MulAdd(x, hn::LoadU(f, rows + 2 * keys.stride + c), v2);
          v3 = hn::MulAdd(x, hn::LoadU(f, rows + 3 * keys.stride + c), v3);
        }
        sum_four(v0, v1, v2, v3, memory_.scores + static_cast<size_t>(r) * strip + k);
      }
    }
  }

  /// The same for more rows: keys are transposed once for all of them.
  void transposed_scores(const KeyRows& keys, Ahead& ahead) const {
    const auto d = static_cast<size_t>(p_.head_dim), strip = static_cast<size_t>(call_.strip);
    for (size_t lane = 0; lane < strip; lane += 4) {
      ahead.step();
      transpose(keys.data + lane * keys.stride, keys.stride, 4, d, 1, memory_.keys + lane, strip);
    }
    product<false>(memory_.keys, memory_.q, static_cast<size_t>(padded_width(p_.head_dim)), d,
                   static_cast<size_t>(rows_), memory_.scores, nullptr, ahead);
  }

  void load_values(int64_t j0, int64_t j1) {
    const int64_t stride = padded_width(p_.value_dim);
    for (int64_t j = j0; j < j1; ++j) {
      float* row = memory_.values + (j - j0) * stride;
      load_row(p_.dtype, row_at(call_.v, p_.dtype, b_, j, g_), p_.value_dim, row);
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
      for (int64_t k = 0; k < j1 - j0; ++k) scores[k] += bias[-(j0 + k)];
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
  const int64_t b_, g_;
  const DecodeMemory memory_;
  const PartialMemory partial_;
  const int64_t rows_;
};

/// Key/value heads [first, last) of a batch entry against one chunk.
struct DecodeTask {
  int64_t chunk, b, first, last;
};

PartialMemory partial_of(const TiledCall& call, int64_t chunk, int64_t b, int64_t g) {
  const Problem& p = call.p;
  const int64_t index = (chunk * p.batch + b) * p.heads_kv + g;
  Carver carver(call.scratch.partials + index * call.scratch.floats_per_partial);
  return PartialMemory::carve(carver, p);
}

/// Rows of the keys from `j0` on, of all heads of the task: what lies side by side is read in one sweep.
Ahead read_strip_ahead(const TiledCall& call, const DecodeTask& task, int64_t j0, int64_t end) {
  if (j0 >= end) return {};
  const Problem& p = call.p;
  const auto bytes = static_cast<int64_t>(bytes_of(p.dtype));
  const int64_t heads = task.last - task.first;
  const auto rows_of = [&](const ConstTensor& tensor, int64_t width) {
    const void* first = row_at(tensor, p.dtype, task.b, j0, task.first);
    return Ahead::Rows{static_cast<const char*>(first), tensor.seq_stride * bytes, heads * width * bytes,
                       std::min(call.strip, end - j0)};
  };
  return {rows_of(call.k, p.head_dim), rows_of(call.v, p.value_dim),
          heads * (call.strip / 4 + call.strip / kValueKeys)};
}

void run_task(const TiledCall& call, const DecodeTask& task, float* block) {
  const Problem& p = call.p;
  const int64_t begin = task.chunk * kDecodeChunk, end = std::min(begin + kDecodeChunk, p.seq_kv);
  const auto head_of = [&](int64_t g) {
    Carver carver(block);
    return DecodeHead(call, task.b, g, DecodeMemory::carve(carver, p, g - task.first),
                      partial_of(call, task.chunk, task.b, g));
  };
  for (int64_t g = task.first; g < task.last; ++g) head_of(g).start();
  for (int64_t j0 = begin; j0 < end; j0 += call.strip) {
    Ahead ahead = read_strip_ahead(call, task, j0 + call.strip, end);
    for (int64_t g = task.first; g < task.last; ++g) {
      head_of(g).visit_strip(j0, std::min(j0 + call.strip, end), ahead);
    }
  }
}

/// O and LSE of one row from all chunks, in their order. `buffer` [value_dim].
void merge_row(const TiledCall& call, int64_t b, int64_t h, int64_t i, const Forward& args, float* buffer) {
  const Problem& p = call.p;
  const int64_t chunks = decode_chunks(p), row = h % p.group() * p.seq_q + i;
  const auto part = [&](int64_t chunk) { return partial_of(call, chunk, b, h / p.group()); };
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
  const bool side_by_side = args.k.head_stride == p.head_dim && args.v.head_stride == p.value_dim;
  const int64_t heads = side_by_side ? decode_heads(context, p) : 1;  // of a task; changes no result
  const int64_t groups = (p.heads_kv + heads - 1) / heads;
#pragma omp parallel num_threads(context.threads)
  {
    float* block = scratch.blocks + omp_get_thread_num() * scratch.floats_per_block;
#pragma omp for schedule(dynamic)
    for (int64_t index = 0; index < decode_chunks(p) * p.batch * groups; ++index) {
      const int64_t first = index % groups * heads;
      run_task(
          call,
          {index / groups / p.batch, index / groups % p.batch, first, std::min(first + heads, p.heads_kv)},
          block);
    }
#pragma omp for schedule(static)
    for (int64_t row = 0; row < p.batch * p.heads_q * p.seq_q; ++row) {
      const int64_t head = row / p.seq_q;
      merge_row(call, head / p.heads_q, head % p.heads_q, row % p.seq_q, args, block);
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
