#pragma once
// What a warpgroup of flash/cuda/hopper's backward does with its 64 keys, and where everything lies in shared
// memory. The order of work: flash_hopper_gradient.cuh.

#include "variants/common/hopper.cuh"
#include "variants/flash/flash_hopper_gradient_args.cuh"

namespace attn {

constexpr int hopper_gradient_queries(int width) { return width == 64 ? 128 : 64; }

/// Places in shared memory, from a multiple of 1024 bytes on, and the barriers. kWidth: padded head_dim and
/// value_dim.
template <int kWidth>
struct HopperGradientShared {
  static_assert(kWidth == 64 || kWidth == 128, "tiles are chosen for these widths");
  static constexpr int kKeys = HopperGradientTiles::kKeys;
  static constexpr int kQueries = hopper_gradient_queries(kWidth);
  static constexpr int kQueryStages = 3, kGradientStages = 2;
  static constexpr int kBoth = kWarpgroupThreads + kWarpLanes;  ///< a warpgroup and warp 1, at a barrier
  static constexpr int kBox = 64 * 128;
  static constexpr int kKeyBytes = kKeys * kWidth * 2;
  static constexpr int kQueryBytes = kQueries * kWidth * 2;
  static constexpr int kScoreBytes = kKeys * kQueries * 2;
  static constexpr int kSumBytes = HopperQuerySums::kHalf * 4;
  static constexpr int kRowBytes = kQueries * 4;
  static constexpr int kAtK = 0;
  static constexpr int kAtV = kAtK + kKeyBytes;
  static constexpr int kAtQ = kAtV + kKeyBytes;
  static constexpr int kAtDO = kAtQ + kQueryStages * kQueryBytes;
  static constexpr int kAtDS = kAtDO + kGradientStages * kQueryBytes;
  static constexpr int kAtDQ = kAtDS + 2 * kScoreBytes;
  static constexpr int kAtLse = kAtDQ + 2 * kSumBytes;
  static constexpr int kAtMean = kAtLse + kQueryStages * kRowBytes;
  static constexpr int kAtBarriers = kAtMean + kGradientStages * kRowBytes;
  static constexpr int kBarriers = 1 + 2 * kQueryStages + 2 * kGradientStages;
  static constexpr int kAtPlace = kAtBarriers + 8 * kBarriers;
  static constexpr int kBytes = kAtPlace + static_cast<int>(sizeof(HopperGradientTiles::Place));

  uint32_t base;

  ATTN_DEVICE uint32_t k() const { return at(kAtK); }
  ATTN_DEVICE uint32_t v() const { return at(kAtV); }
  ATTN_DEVICE uint32_t q(int stage) const { return at(kAtQ + stage * kQueryBytes); }
  ATTN_DEVICE uint32_t d_o(int stage) const { return at(kAtDO + stage * kQueryBytes); }
  /// Of warpgroup 0 or 1.
  ATTN_DEVICE uint32_t d_q(int group) const { return at(kAtDQ + group * kSumBytes); }
  ATTN_DEVICE uint32_t lse(int stage) const { return at(kAtLse + stage * kRowBytes); }
  ATTN_DEVICE uint32_t mean(int stage) const { return at(kAtMean + stage * kRowBytes); }

  ATTN_DEVICE uint32_t keys_full() const { return barrier(0); }
  ATTN_DEVICE uint32_t q_full(int stage) const { return barrier(1 + stage); }
  ATTN_DEVICE uint32_t q_empty(int stage) const { return barrier(1 + kQueryStages + stage); }
  ATTN_DEVICE uint32_t d_o_full(int stage) const { return barrier(1 + 2 * kQueryStages + stage); }
  ATTN_DEVICE uint32_t d_o_empty(int stage) const {
    return barrier(1 + 2 * kQueryStages + kGradientStages + stage);
  }

 private:
  ATTN_DEVICE uint32_t at(int byte) const { return base + static_cast<uint32_t>(byte); }
  ATTN_DEVICE uint32_t barrier(int number) const { return at(kAtBarriers + 8 * number); }
};

/// What an instance can do beyond masks: nothing; ALiBi; that and a softcap.
enum class GradientKind { plain, alibi, capped };

template <class T, int kWidth, GradientKind kKind>
struct HopperGradientRows {
  using Shared = HopperGradientShared<kWidth>;
  using Place = HopperGradientTiles::Place;
  static constexpr int kKeys = Shared::kKeys;
  static constexpr int kQueries = Shared::kQueries;
  static constexpr bool kDeferred = kWidth == 128;  ///< dK is added to a step later
  static constexpr int kScores = kQueries / 2;      ///< sums of S or dP in a thread
  static constexpr int kSteps = kQueries / 16;      ///< of products over the queries

  const HopperGradientArgs& args;
  const Place& place;
  char* memory;  ///< what `at` counts from
  Shared at;
  RingPlace<Shared::kQueryStages> q;
  RingPlace<Shared::kGradientStages> d_o;
  uint32_t scores_at = Shared::kAtDS;
  float s[kScores], d[kScores];  ///< S, then P; dP, then dS
  uint32_t p_pairs[kScores / 2], d_pairs[kScores / 2];
  float d_q[32], d_k[kWidth / 2], d_v[kWidth / 2];

  ATTN_DEVICE HopperGradientRows(const HopperGradientArgs& given, const Place& here, char* shared,
                                 const Shared& places)
      : args(given), place(here), memory(shared), at(places) {}

  ATTN_DEVICE void run() {
    ATTN_UNROLL
    for (int k = 0; k < kWidth / 2; ++k) d_k[k] = d_v[k] = 0;
    wgmma_hold(d_k);
    wgmma_hold(d_v);
    const int steps = args.tiles.group * place.count;
    if (steps > 0) {
      barrier_wait(at.keys_full(), 0);
      if (args.tiles.has_unseen_rows()) clear_keys();
      ATTN_UNROLL
      for (int k = 0; k < kScores / 2; ++k) d_pairs[k] = 0;
      multiply_q();
      int tile = place.last - 1, head = place.head_kv * args.tiles.group;
      ATTN_ROLL
      for (int done = 0; done + 1 < steps; ++done) {
        step<true>(tile, head, done > 0);
        const int after = args.tiles.after(place, tile);
        if (after >= tile) ++head;
        tile = after;
      }
      step<false>(tile, head, steps > 1);
      if constexpr (kDeferred) add_to_d_k(q.stage);
      wgmma_wait<0>();
      wgmma_hold(d_k);
    }
    store();
  }

 private:
  // Found again instead of waiting in registers.
  ATTN_DEVICE static int thread() { return recomputed(static_cast<int>(threadIdx.x)); }
  ATTN_DEVICE static int group() { return thread() / kWarpgroupThreads - 1; }
  ATTN_DEVICE static int lane() { return thread() % kWarpLanes; }
  /// First row of the warp among the block's keys.
  ATTN_DEVICE static int warp_row() { return thread() / kWarpLanes * 16 - 64; }

  /// Of a tile: the bias of the thread's first key and a query depends on their distance alone.
  struct Alibi {
    float slope = 0, distance = 0;

    Alibi() = default;
    ATTN_DEVICE Alibi(const HopperGradientRows& rows, int tile, int head) {
      if (kKind == GradientKind::plain || !rows.args.slopes) return;
      slope = rows.args.slopes[head] * -kLog2e;
      const Cell own = mma_c(lane(), 0);
      const int offset = static_cast<int>(rows.args.tiles.rule.seq_kv) - rows.args.tiles.seq_q;
      distance = static_cast<float>(tile * kQueries + own.column + offset - rows.place.block * kKeys -
                                    warp_row() - own.row);
    }
    /// Less the reference, of the thread's first query and so many behind it.
    ATTN_DEVICE float minus(float reference, int query) const {
      if constexpr (kKind == GradientKind::plain) return -reference;
      return fmaf(slope, fabsf(distance + static_cast<float>(query)), -reference);
    }
  };

  /// kMore: another step follows. `followed`: it is not the first.
  template <bool kMore>
  ATTN_DEVICE void step(int tile, int head, bool followed) {
    Alibi alibi;  // loaded behind the wait, but that beside a softcap registers do not last
    if constexpr (kKind == GradientKind::alibi) alibi = Alibi(*this, tile, head);
    wgmma_wait<0>();
    wgmma_hold(s);
    if (!kDeferred && followed) release(at.q_empty(stage_before()));
    multiply_d_o();
    // In the first step the operand is zero.
    if constexpr (kDeferred) add_to_d_k(followed ? stage_before() : q.stage);
    if constexpr (kKind == GradientKind::capped) {
      weigh_capped(tile, head);
    } else {
      weigh(alibi);
    }
    if (kDeferred && followed) release(at.q_empty(stage_before()));
    exchange(tile);
    add_to_d_v();
    named_sync<1, 2 * kWarpgroupThreads>();
    multiply_scores();
    if constexpr (!kDeferred) add_to_d_k(q.stage);
    constexpr int kBehind = kDeferred ? 0 : 1;
    wgmma_wait<1 + kBehind>();
    wgmma_hold(d_v);
    release(at.d_o_empty(d_o.stage));
    d_o.advance();
    if constexpr (kMore) {
      q.advance();
      multiply_q();
    }
    wgmma_wait<kBehind + (kMore ? 1 : 0)>();
    wgmma_hold(d_q);
    hand_over_d_q();
  }

  ATTN_DEVICE int stage_before() const { return q.stage == 0 ? Shared::kQueryStages - 1 : q.stage - 1; }
  /// The warp no longer reads what the barrier guards.
  ATTN_DEVICE void release(uint32_t empty) const {
    __syncwarp();
    if (lane() == 0) barrier_arrive(empty);
  }
  /// rows += of the warpgroup's keys, K or V, times a tile of queries, Q or dO.
  ATTN_DEVICE void multiply(float (&sums)[kScores], uint32_t all_keys, uint32_t queries) const {
    const uint32_t keys = all_keys + static_cast<uint32_t>(group() * Shared::kBox);
    wgmma_fence();
    ATTN_UNROLL
    for (int k = 0; k < kWidth / 16; ++k) {
      wgmma_shared<T, kQueries, 0, 0>(sums, WgmmaOperand::along(keys, kKeys, k),
                                      WgmmaOperand::along(queries, kQueries, k), k > 0);
    }
    wgmma_commit();
  }
  ATTN_DEVICE void multiply_q() {
    barrier_wait(at.q_full(q.stage), q.parity);
    wgmma_forget(s);
    multiply(s, at.k(), at.q(q.stage));
  }
  ATTN_DEVICE void multiply_d_o() {
    barrier_wait(at.d_o_full(d_o.stage), d_o.parity);
    wgmma_forget(d);
    multiply(d, at.v(), at.d_o(d_o.stage));
  }

  /// S and dP become P and dS. LSE and D of a column serve both rows of the thread.
  ATTN_DEVICE void weigh(const Alibi& alibi) {
    const float factor = args.scale * kLog2e;
    const Float2* lse = row_numbers(Shared::kAtLse, q.stage);
    ATTN_UNROLL
    for (int n = 0; n < kQueries / 8; ++n) {
      const Float2 of = lse[4 * n];
      s[4 * n] = exp2_approximate(fmaf(s[4 * n], factor, alibi.minus(of.x, 8 * n)));
      s[4 * n + 1] = exp2_approximate(fmaf(s[4 * n + 1], factor, alibi.minus(of.y, 8 * n + 1)));
      s[4 * n + 2] = exp2_approximate(fmaf(s[4 * n + 2], factor, alibi.minus(of.x, 8 * n - 8)));
      s[4 * n + 3] = exp2_approximate(fmaf(s[4 * n + 3], factor, alibi.minus(of.y, 8 * n - 7)));
    }
    const Float2* mean = row_numbers(Shared::kAtMean, d_o.stage);
    wgmma_wait<kDeferred ? 1 : 0>();
    wgmma_hold(d);
    ATTN_UNROLL
    for (int n = 0; n < kQueries / 8; ++n) {
      const Float2 of = mean[4 * n];
      d[4 * n] = s[4 * n] * (d[4 * n] - of.x);
      d[4 * n + 1] = s[4 * n + 1] * (d[4 * n + 1] - of.y);
      d[4 * n + 2] = s[4 * n + 2] * (d[4 * n + 2] - of.x);
      d[4 * n + 3] = s[4 * n + 3] * (d[4 * n + 3] - of.y);
    }
    wgmma_wait<0>();  // dK of the step before, whose operand stands in d_pairs
    wgmma_hold(s);
    wgmma_hold(d);
  }
  /// The same with a softcap, whose slope gets to dS and not to P: both are packed at once, as registers do
  /// not last for more.
  ATTN_DEVICE void weigh_capped(int tile, int head) {
    wgmma_wait<0>();
    wgmma_hold(d);
    const float inner = args.scale / args.softcap, outer = args.softcap * kLog2e;
    const Alibi alibi(*this, tile, head);
    const Float2 *lse = row_numbers(Shared::kAtLse, q.stage), *mean = row_numbers(Shared::kAtMean, d_o.stage);
    ATTN_UNROLL
    for (int n = 0; n < kQueries / 8; ++n) {
      const Float2 reference = lse[4 * n], less = mean[4 * n];
      ATTN_UNROLL
      for (int k = 0; k < 4; ++k) {
        const float bent = tanh_approximate(s[4 * n + k] * inner);
        const float shift =
            alibi.minus(k % 2 == 0 ? reference.x : reference.y, 8 * n + k % 2 - (k < 2 ? 0 : 8));
        s[4 * n + k] = exp2_approximate(fmaf(bent, outer, shift));
        d[4 * n + k] =
            s[4 * n + k] * fmaf(-bent, bent, 1.0f) * (d[4 * n + k] - (k % 2 == 0 ? less.x : less.y));
      }
      pack_pairs(n);
    }
  }
  /// P and dS of the eight queries n as operands.
  ATTN_DEVICE void pack_pairs(int n) {
    ATTN_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int k = 2 * n + half;
      p_pairs[k] = pack<T>(s[2 * k], s[2 * k + 1]);
      d_pairs[k] = pack<T>(d[2 * k], d[2 * k + 1]);
    }
  }
  /// Of the thread's columns.
  ATTN_DEVICE const Float2* row_numbers(int from, int stage) const {
    return reinterpret_cast<const Float2*>(memory + from + stage * Shared::kRowBytes) + lane() % 4;
  }
  /// Zeros where a pair is hidden or the key beyond the last, packed, when registers are no longer short.
  ATTN_DEVICE void hide(int tile) {
    const MaskRule& rule = args.tiles.rule;
    ATTN_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int key = place.block * kKeys + warp_row() + lane() / 4 + 8 * half;
      const int64_t column = int64_t{tile} * kQueries + mma_c(lane(), 0).column;
      const int begin = near_distance(rule.queries_begin(key) - column);
      const int end = key < place.keys ? near_distance(rule.queries_end(key) - column) : begin;
      const uint32_t bits = rule.blocks ? block_bits(key, tile) : ~0u;
      ATTN_UNROLL
      for (int n = 0; n < kQueries / 8; ++n) {
        const auto visible = [&](int e) {
          return 8 * n + e >= begin && 8 * n + e < end && (bits >> (2 * n + e) & 1u);
        };
        const uint32_t low = visible(0) ? 0xffffu : 0u, high = visible(1) ? 0xffff0000u : 0u;
        p_pairs[2 * n + half] &= low | high;
        d_pairs[2 * n + half] &= low | high;
      }
    }
  }

  ATTN_DEVICE uint32_t block_bits(int key, int tile) const {
    const MaskRule& rule = args.tiles.rule;
    const MaskLine line = MaskLine::of_key(rule, args.tiles.seq_q, rule.seq_kv, key);
    return visible_bits<kQueries>(line, static_cast<uint32_t>(tile * kQueries), lane());
  }

  // Zero times the NaN of a row that nothing sees would get to every sum.

  /// Zeros for rows of kRowCount in chunks of 64 channels, by both warpgroups. unseen(row): which.
  template <int kRowCount, class Unseen>
  ATTN_DEVICE void clear_rows(uint32_t rows, Unseen unseen) const {
    constexpr int kThreadsOfRow = 2 * kWarpgroupThreads / kRowCount;
    const int part = thread() - kWarpgroupThreads, row = part / kThreadsOfRow;
    if (!unseen(row)) return;
    ATTN_UNROLL
    for (int k = 0; k < kWidth / 8 / kThreadsOfRow; ++k) {
      const int piece = k * kThreadsOfRow + part % kThreadsOfRow;  // of 16 bytes
      shared_clear(rows + static_cast<uint32_t>((piece / 8 * kRowCount + row) * 128 + piece % 8 * 16));
    }
  }
  /// K, for dQ. V only gets to weights that are hidden.
  ATTN_DEVICE void clear_keys() const {
    clear_rows<kKeys>(at.k(),
                      [this](int row) { return !args.tiles.is_seen(place, place.block * kKeys + row); });
    async_proxy_fence();
    named_sync<1, 2 * kWarpgroupThreads>();
  }
  /// Q and dO of this step, for dK and dV.
  ATTN_DEVICE void clear_queries() const {
    named_sync<1, 2 * kWarpgroupThreads>();  // S and dP of both warpgroups have read them
    const auto* lse = reinterpret_cast<const float*>(memory + Shared::kAtLse + q.stage * Shared::kRowBytes);
    const auto unseen = [=](int row) { return lse[row] == INFINITY; };
    clear_rows<kQueries>(at.q(q.stage), unseen);
    clear_rows<kQueries>(at.d_o(d_o.stage), unseen);
    async_proxy_fence();
    named_sync<1, 2 * kWarpgroupThreads>();
  }

  /// Four packed pairs, 16 columns from 16 k on of the warpgroup's 64 rows, into chunks of [128][64].
  ATTN_DEVICE void store_pairs(uint32_t rows, int k, uint32_t p0, uint32_t p1, uint32_t p2,
                               uint32_t p3) const {
    const int row = warp_row() + lane() % 16;
    const auto to =
        static_cast<uint32_t>(k / 4 * kKeys * 128) + swizzled_128(row, k % 4 * 16 + lane() / 16 * 8);
    stmatrix_x4(rows + to, p0, p1, p2, p3);
  }
  /// P and dS as operands; dS also to shared memory.
  ATTN_DEVICE void exchange(int tile) {
    if constexpr (kKind != GradientKind::capped) {
      ATTN_UNROLL
      for (int n = 0; n < kQueries / 8; ++n) pack_pairs(n);
    }
    if (args.tiles.is_partial(place, tile)) {
      hide(tile);
      if (args.tiles.has_unseen_rows()) clear_queries();
    }
    ATTN_UNROLL
    for (int k = 0; k < kSteps; ++k) {
      store_pairs(at.base + scores_at, k, d_pairs[4 * k], d_pairs[4 * k + 1], d_pairs[4 * k + 2],
                  d_pairs[4 * k + 3]);
    }
    async_proxy_fence();
  }

  /// sums += the operand times a tile of queries, rows across.
  ATTN_DEVICE static void add_product(float (&sums)[kWidth / 2], uint32_t (&operand)[kScores / 2],
                                      uint32_t queries) {
    wgmma_hold(operand);
    wgmma_fence();
    ATTN_UNROLL
    for (int k = 0; k < kSteps; ++k) {
      wgmma_registers<T, kWidth, 1>(sums, operand + 4 * k, WgmmaOperand::across(queries, kQueries, k), true);
    }
    wgmma_commit();
  }
  ATTN_DEVICE void add_to_d_v() { add_product(d_v, p_pairs, at.d_o(d_o.stage)); }
  ATTN_DEVICE void add_to_d_k(int stage) { add_product(d_k, d_pairs, at.q(stage)); }

  /// The warpgroup's half of dQ.
  ATTN_DEVICE void multiply_scores() {
    constexpr int kChunkBytes = kKeys * 128;
    const auto half = static_cast<uint32_t>(group() * kChunkBytes);
    const uint32_t scores = at.base + scores_at + (kWidth == 64 ? half : 0);
    const uint32_t keys = at.k() + (kWidth == 64 ? 0 : half);
    wgmma_forget(d_q);
    wgmma_fence();
    ATTN_UNROLL
    for (int k = 0; k < kKeys / 16; ++k) {
      wgmma_shared<T, 64, 1, 1>(d_q, WgmmaOperand::across(scores, kKeys, k),
                                WgmmaOperand::across(keys, kKeys, k), k > 0);
    }
    wgmma_commit();
    scores_at = 2 * Shared::kAtDS + Shared::kScoreBytes - scores_at;
  }
  ATTN_DEVICE void hand_over_d_q() {
    auto* to = reinterpret_cast<Float4*>(memory + Shared::kAtDQ + group() * Shared::kSumBytes) +
               thread() % kWarpgroupThreads;
    if (group() == 0) {
      named_sync<4, Shared::kBoth>();
    } else {
      named_sync<5, Shared::kBoth>();
    }
    ATTN_UNROLL
    for (int n = 0; n < 8; ++n)
      to[n * kWarpgroupThreads] = {d_q[4 * n], d_q[4 * n + 1], d_q[4 * n + 2], d_q[4 * n + 3]};
    async_proxy_fence();
    if (group() == 0) {
      named_arrive<2, Shared::kBoth>();
    } else {
      named_arrive<3, Shared::kBoth>();
    }
  }

  /// dK and dV through the place of K and V, which nobody reads any more.
  ATTN_DEVICE void store() {
    named_sync<1, 2 * kWarpgroupThreads>();
    store_sums(d_v, at.v(), 1.0f);
    if (args.rope) rotate_back();
    store_sums(d_k, at.k(), args.scale);
    async_proxy_fence();
    if (group() == 0) {
      named_sync<6, kWarpgroupThreads>();
    } else {
      named_sync<7, kWarpgroupThreads>();
    }
    if (thread() % kWarpgroupThreads != 0) return;
    ATTN_UNROLL
    for (int chunk = 0; chunk < kWidth / 64; ++chunk) {
      const auto from = static_cast<uint32_t>(chunk * kKeys * 128 + group() * Shared::kBox);
      const int key = place.block * kKeys + 64 * group();
      tma_store(&args.d_v, at.v() + from, 64 * chunk, place.head_kv, key, place.b);
      tma_store(&args.d_k, at.k() + from, 64 * chunk, place.head_kv, key, place.b);
    }
    bulk_commit();
    bulk_wait_read<0>();
  }
  /// dK, through memory where Q and dO were: of each warp 16 rows.
  ATTN_DEVICE void rotate_back() {
    static_assert(kKeys * kWidth * 4 <= Shared::kAtDS - Shared::kAtQ);
    auto* rows = reinterpret_cast<float*>(memory + Shared::kAtQ) + warp_row() * kWidth;
    const auto each_sum = [&](auto visit) {
      ATTN_UNROLL
      for (int k = 0; k < kWidth / 2; ++k) {
        const Cell cell = mma_c(lane(), k % 4);
        visit(rows[cell.row * kWidth + k / 4 * 8 + cell.column], d_k[k]);
      }
    };
    each_sum([](float& there, float sum) { there = sum; });
    __syncwarp();
    ATTN_ROLL
    for (int row = 0; row < 16; ++row) {
      const int key = place.block * kKeys + warp_row() + row;
      if (key < args.tiles.rule.seq_kv) args.rope.rotate_back(rows + row * kWidth, key, lane());
    }
    __syncwarp();
    each_sum([](float there, float& sum) { sum = there; });
  }
  ATTN_DEVICE void store_sums(const float (&sums)[kWidth / 2], uint32_t rows, float factor) const {
    ATTN_UNROLL
    for (int k = 0; k < kWidth / 16; ++k) {
      const auto pair = [&](int e) {
        return pack<T>(sums[8 * k + e] * factor, sums[8 * k + e + 1] * factor);
      };
      store_pairs(rows, k, pair(0), pair(2), pair(4), pair(6));
    }
  }
};

}  // namespace attn
