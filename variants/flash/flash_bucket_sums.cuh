#pragma once
// Gradient of a T5 table in the fused backward: dS of a tile is added up along its diagonals, these by
// bucket, into a row of memory that the block owns; a last kernel adds the blocks' rows in order. Nothing is
// atomic.

#include "variants/common/position_cuda.cuh"

namespace attn {

/// gradient[buckets, heads_q] = the blocks' sums, added in the order of batch entries and blocks.
struct AddBucketSums {
  const float* sums;  // [batch, heads_q, blocks, buckets]
  float* gradient;    // [buckets, heads_q]
  int64_t batch, heads_q, blocks, buckets;

  ATTN_DEVICE void operator()(int64_t index) const {
    const int64_t h = index % heads_q, bucket = index / heads_q;
    float sum = 0;
    for (int64_t b = 0; b < batch; ++b) {
      for (int64_t block = 0; block < blocks; ++block) {
        sum += sums[((b * heads_q + h) * blocks + block) * buckets + bucket];
      }
    }
    gradient[index] = sum;
  }
};

struct BucketSums {
  const int32_t* buckets = nullptr;  ///< of the elements of a bias row; null: no table
  float* sums = nullptr;             // [blocks of queries, count]
  int64_t width = 0;                 ///< of a bias row
  int count = 0;

  /// `blocks` blocks of queries.
  static BucketSums take(const Problem& p, const DeviceBias& bias, int64_t blocks, Workspace& workspace) {
    if (!p.position.t5()) return {};
    BucketSums taken{bias.buckets(), nullptr, p.seq_q + p.seq_kv - 1, static_cast<int>(p.position.buckets)};
    taken.sums = workspace.take<float>("bucket sums of blocks", blocks * p.position.buckets);
    return taken;
  }
  template <class Queue>
  void add_up(const Queue& queue, const Problem& p, int64_t blocks, float* gradient) const {
    if (!p.position.t5()) return;
    queue.for_each(p.position.buckets * p.heads_q,
                   AddBucketSums{sums, gradient, p.batch, p.heads_q, blocks / (p.batch * p.heads_q), count});
  }

  /// Of an element of the bias rows; -1 where no pair is.
  ATTN_DEVICE int bucket_of(int64_t element) const {
    return element >= 0 && element < width ? buckets[element] : -1;
  }

  template <int kThreads, class Block>
  ATTN_DEVICE void clear(Block& block, int64_t index) const {
    block.each([=, *this](auto&, int thread, auto&) {
      for (int bucket = thread; bucket < count; bucket += kThreads) sums[index * count + bucket] = 0;
    });
  }

  /// Adds dS of a tile, scores[kRows][kStride], to the sums of the block. Diagonal x of the tile holds the
  /// pairs with column - row = x - (kRows - 1), one distance each, and is element `zero` - x of a bias row. A
  /// bucket is a range of distances: its first diagonal adds up the range, and no two threads meet.
  /// `diagonals` [kRows + kColumns - 1] is shared memory.
  template <int kRows, int kColumns, int kStride, int kThreads, class Block>
  ATTN_DEVICE void add(Block& block, int64_t index, int64_t zero, const float* scores,
                       float* diagonals) const {
    constexpr int kDiagonals = kRows + kColumns - 1;
    block.sync();  // dS is here
    block.each([=](auto&, int thread, auto&) {
      for (int x = thread; x < kDiagonals; x += kThreads) {
        const int first = x < kRows ? kRows - 1 - x : 0;
        const int end = kDiagonals - x < kRows ? kDiagonals - x : kRows;
        float sum = 0;
        for (int row = first; row < end; ++row) sum += scores[row * kStride + x + row - (kRows - 1)];
        diagonals[x] = sum;
      }
    });
    block.sync();
    block.each([=, *this](auto&, int thread, auto&) {
      for (int x = thread; x < kDiagonals; x += kThreads) {
        const int bucket = bucket_of(zero - x);
        if (bucket < 0 || (x > 0 && bucket == bucket_of(zero - x + 1))) continue;
        float sum = 0;
        for (int of = x; of < kDiagonals && bucket_of(zero - of) == bucket; ++of) sum += diagonals[of];
        sums[index * count + bucket] += sum;
      }
    });
    block.converge();
  }
};

}  // namespace attn
