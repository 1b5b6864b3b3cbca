#pragma once
// Where the tiled kernels keep things: one carving function per pass, used both to count and to take.

#include <algorithm>

#include "variants/common/tiled_attention.h"

namespace attn {

inline int64_t round_up(int64_t value, int64_t step) { return (value + step - 1) / step * step; }

/// Hands out consecutive cache-line-aligned parts of a buffer of floats; with a null base it counts.
class Carver {
 public:
  explicit Carver(float* base) : base_(base) {}
  float* take(int64_t count) {
    float* part = base_ ? base_ + used_ : nullptr;
    used_ += round_up(count, 16);
    return part;
  }
  int64_t used() const { return used_; }

 private:
  float* base_;
  int64_t used_ = 0;
};

/// Strips whose dK and dV are added up together hold this many queries: the sums are loaded and stored once
/// for all of them.
inline constexpr int64_t kOuterQueries = 128;

/// Widths of rows that kernels read in whole vectors.
inline int64_t padded_width(int64_t width) { return round_up(width, 16); }
/// Rows of a Shaw term skewed to (key, query): row r holds distance r - clip - lane (see skew()).
inline int64_t skew_rows(const Problem& p) { return 2 * p.position.clip + kQueryStep; }

/// What both passes keep of a block of queries and of the tile at hand.
struct BlockMemory {
  float* q;        // [strips][head_dim][strip] scaled, rotated
  float* scores;   // [key_tile][strip], then P; backward: of kOuterQueries queries, strip by strip
  float* keys;     // [key_tile][head_dim]
  float* values;   // [key_tile][value_dim]
  float* visible;  // [strip] 1 where the block mask shows the row
  float* skewed;   // [strips][skew rows][strip] Shaw key term
  float* table;    // [Shaw rows][strip]
  float* rows;     // [strip][larger of head_dim and value_dim] on the way to or from a transposed strip

  static BlockMemory carve(Carver& carver, const Problem& p, const Tiling& t) {
    const bool shaw = p.position.shaw();
    BlockMemory m;
    m.q = carver.take(t.query_block * p.head_dim);
    m.scores = carver.take(t.key_tile * (p.pass == Pass::fwd ? kQueryStep : kOuterQueries));
    m.keys = carver.take(t.key_tile * p.head_dim);
    m.values = carver.take(t.key_tile * p.value_dim);
    m.visible = carver.take(kQueryStep);
    m.skewed = carver.take(shaw ? t.query_block * skew_rows(p) : 0);
    m.table = carver.take(shaw ? p.position.shaw_rows() * kQueryStep : 0);
    m.rows = carver.take(kQueryStep * std::max(p.head_dim, p.value_dim));
    return m;
  }
};

struct ForwardMemory {
  BlockMemory block;
  float* o;          // [strips][value_dim][strip]
  float* maximum;    // [query_block] reference maximum, in powers of two
  float* sum;        // [query_block]
  float* histogram;  // [strips][skew rows][strip] P by distance, for Shaw values

  static ForwardMemory carve(Carver& carver, const Problem& p, const Tiling& t) {
    ForwardMemory m;
    m.block = BlockMemory::carve(carver, p, t);
    m.o = carver.take(t.query_block * p.value_dim);
    m.maximum = carver.take(t.query_block);
    m.sum = carver.take(t.query_block);
    m.histogram = carver.take(p.position.shaw_values() ? t.query_block * skew_rows(p) : 0);
    return m;
  }
};

struct BackwardMemory {
  BlockMemory block;
  float* d_o;            // [strips][value_dim][strip]
  float* d_q;            // [strips][head_dim][strip]
  float* q_rows;         // [query_block][padded head_dim] rotated, not scaled
  float* d_o_rows;       // [query_block][padded value_dim]
  float* lse;            // [query_block] in powers of two; +inf where nothing is visible
  float* mean;           // [query_block] D = dO.O
  float* d_scores;       // as block.scores
  float* cap_slope;      // [key_tile][strip] 1 - (S / c)^2
  float* skewed_values;  // [strips][skew rows][strip] dO.aV
  float* d_score_sums;   // [strips][skew rows][strip] dS by distance
  float* histogram;      // [strips][skew rows][strip] P by distance

  static BackwardMemory carve(Carver& carver, const Problem& p, const Tiling& t) {
    const int64_t skewed = t.query_block * skew_rows(p);
    BackwardMemory m;
    m.block = BlockMemory::carve(carver, p, t);
    m.d_o = carver.take(t.query_block * p.value_dim);
    m.d_q = carver.take(t.query_block * p.head_dim);
    m.q_rows = carver.take(t.query_block * padded_width(p.head_dim));
    m.d_o_rows = carver.take(t.query_block * padded_width(p.value_dim));
    m.lse = carver.take(t.query_block);
    m.mean = carver.take(t.query_block);
    m.d_scores = carver.take(t.key_tile * kOuterQueries);
    m.cap_slope = carver.take(p.softcap != 0 ? t.key_tile * kQueryStep : 0);
    m.skewed_values = carver.take(p.position.shaw_values() ? skewed : 0);
    m.d_score_sums = carver.take(p.position.shaw() ? skewed : 0);
    m.histogram = carver.take(p.position.shaw_values() ? skewed : 0);
    return m;
  }
};

/// What a thread keeps of a chunk of keys and the few queries against it; q, begin and end for every head of
/// a task, the rest shared.
struct DecodeMemory {
  float* q;        // [rows][padded head_dim] scaled, rotated
  float* keys;     // [head_dim][strip]
  float* rows;     // [strip][padded head_dim] keys that had to be converted or rotated
  float* values;   // [strip][padded value_dim]
  float* scores;   // [rows][strip], then P
  int64_t* begin;  // [rows] first visible key
  int64_t* end;    // [rows] behind the last one

  /// `head` counts within the task.
  static DecodeMemory carve(Carver& carver, const Problem& p, int64_t head) {
    const int64_t rows = decode_rows(p);
    DecodeMemory m;
    m.keys = carver.take(p.head_dim * kQueryStep);
    m.rows = carver.take(kQueryStep * padded_width(p.head_dim));
    m.values = carver.take(kQueryStep * padded_width(p.value_dim));
    m.scores = carver.take(rows * kQueryStep);
    for (int64_t h = 0; h <= head; ++h) {
      m.q = carver.take(rows * padded_width(p.head_dim));
      m.begin = reinterpret_cast<int64_t*>(carver.take(2 * rows));
      m.end = reinterpret_cast<int64_t*>(carver.take(2 * rows));
    }
    return m;
  }
};

/// What a chunk leaves: O not yet divided by the sum, and both relative to 2^maximum.
struct PartialMemory {
  float* o;        // [rows][padded value_dim]
  float* maximum;  // [rows]
  float* sum;      // [rows]

  static PartialMemory carve(Carver& carver, const Problem& p) {
    const int64_t rows = decode_rows(p);
    return {carver.take(rows * padded_width(p.value_dim)), carver.take(rows), carver.take(rows)};
  }
};

/// Sums of gradients over queries, kept until a key/value head is done.
struct GradientMemory {
  float* d_k;  // [seq_kv][padded head_dim]
  float* d_v;  // [seq_kv][padded value_dim]

  static GradientMemory carve(Carver& carver, const Problem& p) {
    GradientMemory m;
    m.d_k = carver.take(p.seq_kv * padded_width(p.head_dim));
    m.d_v = carver.take(p.seq_kv * padded_width(p.value_dim));
    return m;
  }
};

/// Sums of the gradients of the Shaw tables of one task.
struct TableMemory {
  float* d_key;    // [Shaw rows][padded head_dim]
  float* d_value;  // [Shaw rows][padded value_dim]

  static TableMemory carve(Carver& carver, const Problem& p) {
    const int64_t rows = p.position.shaw() ? p.position.shaw_rows() : 0;
    TableMemory m;
    m.d_key = carver.take(rows * padded_width(p.head_dim));
    m.d_value = carver.take(p.position.shaw_values() ? rows * padded_width(p.value_dim) : 0);
    return m;
  }
};

/// Query blocks of a key/value head are dealt to this many tasks, so that few heads still use all threads.
inline int64_t backward_splits(const Context& context, const Problem& p) {
  const int64_t heads = p.batch * p.heads_kv;
  return heads >= context.threads ? 1 : (context.threads + heads - 1) / heads;
}

}  // namespace attn
