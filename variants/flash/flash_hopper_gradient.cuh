#pragma once
// The thread block of flash/cuda/hopper's backward: dK and dV of 128 keys, and its part of dQ.
//
//   S^T = K Q^T      A K (K-major), B Q (K-major), both shared     [64 keys, queries] a warpgroup
//   dP^T = V dO^T    A V, B dO alike
//   dV += P^T dO     A P^T in registers as S^T left it, B dO (MN-major)
//   dK += dS^T Q     A dS^T in registers, B Q (MN-major)
//   dQ = dS K        A dS^T in shared memory, transposed (MN-major), B K (MN-major)
// P = 2^(S scale log2(e) - LSE), dS = P (dP - D). Each warpgroup holds dK and dV of 64 keys in registers and
// computes a half of dQ over all 128 keys: of the channels at width 128, of the queries at width 64.
//
// Roles, 384 threads: warp 0 loads by TMA (one thread), warp 1 adds dQ to memory (one thread, in the order of
// HopperGradientTiles), warpgroups 1 and 2 compute. Registers 24 / 240: at width 128 dK and dV are 128 of
// them, S and dP 64; at width 64 64 and 128; dQ 32, P and dS as operands 16 (32) each.
//
// Order of a step of a warpgroup at width 128, so that the tensor cores have work behind other arithmetic:
//   wait S(t); issue dP(t), dK(t-1); P; wait dP(t); dS; wait dK(t-1): release Q(t-1); dS to shared memory
//   issue dV(t); barrier of both warpgroups (dS is there); issue dQ(t)
//   wait dV(t): release dO(t); issue S(t+1); wait dQ(t); dQ to shared memory, for warp 1
// At width 64 registers do not last for that: dK(t) follows dQ(t), and is waited for with S(t+1). Only S, or
// S and dK, are under way where the loop closes: what a partial wait leaves there ptxas serialises (C7514).
//
// Barriers. mbarriers `full` of K and V, Q (3 stages, with LSE) and dO (2 stages, with D): one arrival and
// the bytes. `empty` of Q and dO: 8 arrivals, one a consuming warp once it no longer reads. Named: 1 both
// warpgroups (256), once a step; dS has two buffers, so that who writes one has met everybody after their
// reading it. 2 + w, 4 + w (160): dQ of warpgroup w is in shared memory, has been read from there.
//
// Bytes at width 64 (tiles of 128 queries) and 128 (64 queries): K 16384 32768, V the same, Q 3 * 16384, dO
// 2 * 16384, dS 2 * 32768 2 * 16384, dQ 2 * 16384, LSE 3 * 512 3 * 256, D 2 * 512 2 * 256, barriers: 215664
// and 214384 of 232448 with 1024 for alignment.
//
// Rows that nothing sees are outside the tensor maps, so that NaN there is never read; where they lie between
// others or batch entries differ in them, they are zeroed in shared memory. In partial tiles hidden weights
// are selected to be 0; NaN in a row that some but not all of its tile see gets to all.
//
// Method: Dao, "FlashAttention-2", 2023, algorithm 2; Shah et al., "FlashAttention-3", 2024, for the roles.
// Measured effect: README.md.

#include "variants/common/hopper.cuh"
#include "variants/common/tensor_box.h"
#include "variants/common/warp.cuh"
#include "variants/flash/flash_hopper_gradient_args.cuh"

namespace attn {

/// Tensor maps have boxes of 64 rows and 64 channels.
struct HopperGradientArgs {
  TensorMap q, d_o;    ///< of seeing queries only
  TensorMap k, v;      ///< of seen keys only
  TensorMap d_k, d_v;  ///< whole
  HopperGradientTiles tiles;
  int first_query, first_key;  ///< of q, d_o and k, v
  int heads_q;
  float scale;
  QueryRows queries;
  HopperQuerySums sums;
  HopperRope rope;  ///< of the keys, where k holds rotated ones: dK is rotated back
};

constexpr int hopper_gradient_queries(int width) { return width == 64 ? 128 : 64; }

/// kWidth: padded head_dim and value_dim.
template <class T, int kWidth>
struct FlashHopperGradient {
  static_assert(kWidth == 64 || kWidth == 128, "tiles are chosen for these widths");
  using Place = HopperGradientTiles::Place;
  static constexpr int kKeys = HopperGradientTiles::kKeys;
  static constexpr int kQueries = hopper_gradient_queries(kWidth);
  static constexpr int kThreads = 3 * kWarpgroupThreads;
  static constexpr int kChunks = kWidth / 64;
  static constexpr bool kDeferred = kWidth == 128;  ///< dK is added to a step later
  static constexpr int kQueryStages = 3, kGradientStages = 2;
  static constexpr int kConsumingWarps = 8;
  static constexpr int kBoth = kWarpgroupThreads + kWarpLanes;  ///< a warpgroup and warp 1
  static constexpr int kLoaderRegisters = 24, kConsumerRegisters = 240;
  static_assert(QueryRows::kMultiple % kQueries == 0, "LSE and D are there for whole tiles");

  /// Bytes from the start of shared memory, which is a multiple of 1024.
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
  static constexpr int kAlignment = 1024;
  static constexpr size_t shared_bytes() { return kAtPlace + sizeof(Place) + kAlignment; }
  static_assert(shared_bytes() <= 232448, "the most that a thread block gets");

  HopperGradientArgs args;

  struct Barriers {
    uint32_t first;
    ATTN_DEVICE uint32_t keys_full() const { return first; }
    ATTN_DEVICE uint32_t q_full(int stage) const { return at(1 + stage); }
    ATTN_DEVICE uint32_t q_empty(int stage) const { return at(1 + kQueryStages + stage); }
    ATTN_DEVICE uint32_t d_o_full(int stage) const { return at(1 + 2 * kQueryStages + stage); }
    ATTN_DEVICE uint32_t d_o_empty(int stage) const {
      return at(1 + 2 * kQueryStages + kGradientStages + stage);
    }

   private:
    ATTN_DEVICE uint32_t at(int k) const { return first + 8 * static_cast<uint32_t>(k); }
  };

  ATTN_DEVICE void run(void* memory) const {
    const uint32_t unaligned = shared_address(memory);
    char* shared = static_cast<char*>(memory) + (kAlignment - unaligned % kAlignment) % kAlignment;
    const uint32_t address = shared_address(shared);
    const Barriers barriers{address + kAtBarriers};
    auto* place = reinterpret_cast<Place*>(shared + kAtPlace);
    if (threadIdx.x == 0) {
      *place = args.tiles.place_of(atomicInc(args.sums.ticket(), 0xffffffffu));
      barrier_init(barriers.keys_full(), 1);
      for (int k = 0; k < kQueryStages; ++k) {
        barrier_init(barriers.q_full(k), 1);
        barrier_init(barriers.q_empty(k), kConsumingWarps);
      }
      for (int k = 0; k < kGradientStages; ++k) {
        barrier_init(barriers.d_o_full(k), 1);
        barrier_init(barriers.d_o_empty(k), kConsumingWarps);
      }
      barrier_init_fence();
    }
    __syncthreads();
    const int warp = uniform(static_cast<int>(threadIdx.x) / kWarpLanes);
    if (warp < 4) {
      give_registers_back<kLoaderRegisters>();
      if (warp == 0 && threadIdx.x == 0) load(*place, address, barriers);
      if (warp == 1) add_up(*place, address);
    } else {
      take_registers<kConsumerRegisters>();
      Consumer(args, *place, shared, address, barriers).run();
    }
  }

 private:
  // Warp 0 ---------------------------------------------------------------------------------------------

  /// kRowCount rows of a head, in chunks of 64 channels.
  template <int kRowCount>
  ATTN_DEVICE static void load_tile(uint32_t to, const void* map, uint32_t barrier, int head, int row, int b,
                                    L2Hint hint) {
    ATTN_UNROLL
    for (int chunk = 0; chunk < kChunks; ++chunk) {
      ATTN_UNROLL
      for (int part = 0; part < kRowCount / 64; ++part) {
        tma_load(to + static_cast<uint32_t>((chunk * (kRowCount / 64) + part) * kBox), map, barrier,
                 64 * chunk, head, row + 64 * part, b, hint);
      }
    }
  }

  ATTN_DEVICE void load(const Place& place, uint32_t address, const Barriers& barriers) const {
    if (place.count == 0) return;
    const int key = place.block * kKeys - args.first_key;
    barrier_expect(barriers.keys_full(), 2 * kKeyBytes);
    load_tile<kKeys>(address + kAtK, &args.k, barriers.keys_full(), place.head_kv, key, place.b,
                     L2Hint::evict_first);
    load_tile<kKeys>(address + kAtV, &args.v, barriers.keys_full(), place.head_kv, key, place.b,
                     L2Hint::evict_first);
    RingPlace<kQueryStages> q;
    RingPlace<kGradientStages> d_o;
    const int first_head = place.head_kv * args.tiles.group;
    for (int head = first_head; head < first_head + args.tiles.group; ++head) {
      int tile = place.last - 1;
      for (int left = place.count; left > 0; --left, tile = args.tiles.after(place, tile)) {
        const int query = tile * kQueries;
        const int64_t at = args.queries.at(place.b, args.heads_q, head, query);
        uint32_t full = barriers.q_full(q.stage);
        barrier_wait(barriers.q_empty(q.stage), q.parity ^ 1);
        barrier_expect(full, kQueryBytes + kRowBytes);
        load_tile<kQueries>(address + kAtQ + static_cast<uint32_t>(q.stage * kQueryBytes), &args.q, full,
                            head, query - args.first_query, place.b, L2Hint::evict_last);
        bulk_load(address + kAtLse + static_cast<uint32_t>(q.stage * kRowBytes), args.queries.lse + at,
                  kRowBytes, full);
        full = barriers.d_o_full(d_o.stage);
        barrier_wait(barriers.d_o_empty(d_o.stage), d_o.parity ^ 1);
        barrier_expect(full, kQueryBytes + kRowBytes);
        load_tile<kQueries>(address + kAtDO + static_cast<uint32_t>(d_o.stage * kQueryBytes), &args.d_o, full,
                            head, query - args.first_query, place.b, L2Hint::evict_last);
        bulk_load(address + kAtMean + static_cast<uint32_t>(d_o.stage * kRowBytes), args.queries.mean + at,
                  kRowBytes, full);
        q.advance();
        d_o.advance();
      }
    }
  }

  // Warp 1 ---------------------------------------------------------------------------------------------

  ATTN_DEVICE void add_up(const Place& place, uint32_t address) const {
    const bool acting = threadIdx.x % kWarpLanes == 0;
    int left = args.tiles.group * place.count;
    if (left == 0) return;
    named_arrive<4, kBoth>();
    named_arrive<5, kBoth>();
    const int64_t first_head = int64_t{place.b} * args.heads_q + place.head_kv * args.tiles.group;
    int64_t row = first_head * args.tiles.query_tiles;  // of the head's tile 0
    int tile = place.last - 1;
    while (left-- > 0) {
      const int rank = args.tiles.rank(place, tile);
      float* to = args.sums.sums + (row + tile) * (2 * HopperQuerySums::kHalf);
      uint32_t* counter = args.sums.counters + row + tile;
      named_sync<2, kBoth>();
      if (acting) {
        if (rank > 0) counter_wait(counter, static_cast<uint32_t>(rank));
        add(to, address + kAtDQ, rank);
      }
      __syncwarp();
      named_sync<3, kBoth>();
      if (acting) {
        add(to + HopperQuerySums::kHalf, address + kAtDQ + kSumBytes, rank);
        bulk_wait_read<1>();
      }
      __syncwarp();
      if (left > 0) named_arrive<4, kBoth>();
      if (acting) bulk_wait_read<0>();
      __syncwarp();
      if (left > 0) named_arrive<5, kBoth>();
      if (acting) {
        bulk_wait<0>();
        counter_add(counter);
      }
      __syncwarp();
      const int after = args.tiles.after(place, tile);
      if (after >= tile) row += args.tiles.query_tiles;
      tile = after;
    }
  }
  ATTN_DEVICE static void add(float* to, uint32_t from, int rank) {
    if (rank > 0) {
      bulk_add(to, from, kSumBytes);
    } else {
      bulk_store(to, from, kSumBytes);
    }
    bulk_commit();
  }

  // Warpgroups 1 and 2 ---------------------------------------------------------------------------------

  struct Consumer {
    static constexpr int kScores = kQueries / 2;  ///< sums of S or dP in a thread
    static constexpr int kSteps = kQueries / 16;  ///< of products over the queries

    const HopperGradientArgs& args;
    const Place& place;
    char* shared;
    uint32_t address;
    Barriers barriers;
    RingPlace<kQueryStages> q;
    RingPlace<kGradientStages> d_o;
    uint32_t scores_at = kAtDS;
    float s[kScores], d[kScores];  ///< S, then P; dP, then dS
    uint32_t p_pairs[kScores / 2], d_pairs[kScores / 2];
    float d_q[32], d_k[kWidth / 2], d_v[kWidth / 2];

    ATTN_DEVICE Consumer(const HopperGradientArgs& given, const Place& here, char* memory, uint32_t start,
                         const Barriers& all)
        : args(given), place(here), shared(memory), address(start), barriers(all) {}

    ATTN_DEVICE void run() {
      ATTN_UNROLL
      for (int k = 0; k < kWidth / 2; ++k) d_k[k] = d_v[k] = 0;
      wgmma_hold(d_k);
      wgmma_hold(d_v);
      const int steps = args.tiles.group * place.count;
      if (steps > 0) {
        barrier_wait(barriers.keys_full(), 0);
        if (args.tiles.has_unseen_rows()) clear_keys();
        ATTN_UNROLL
        for (int k = 0; k < kScores / 2; ++k) d_pairs[k] = 0;
        multiply_q();
        int tile = place.last - 1;
        ATTN_ROLL
        for (int done = 0; done + 1 < steps; ++done) {
          step<true>(tile, done > 0);
          tile = args.tiles.after(place, tile);
        }
        step<false>(tile, steps > 1);
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

    /// kMore: another step follows. `followed`: it is not the first.
    template <bool kMore>
    ATTN_DEVICE void step(int tile, bool followed) {
      wgmma_wait<0>();
      wgmma_hold(s);
      if (!kDeferred && followed) release(barriers.q_empty(stage_before()));
      multiply_d_o();
      // In the first step the operand is zero.
      if constexpr (kDeferred) add_to_d_k(followed ? stage_before() : q.stage);
      weigh();
      if (kDeferred && followed) release(barriers.q_empty(stage_before()));
      exchange(tile);
      add_to_d_v();
      named_sync<1, 2 * kWarpgroupThreads>();
      multiply_scores();
      if constexpr (!kDeferred) add_to_d_k(q.stage);
      constexpr int kBehind = kDeferred ? 0 : 1;
      wgmma_wait<1 + kBehind>();
      wgmma_hold(d_v);
      release(barriers.d_o_empty(d_o.stage));
      d_o.advance();
      if constexpr (kMore) {
        q.advance();
        multiply_q();
      }
      wgmma_wait<kBehind + (kMore ? 1 : 0)>();
      wgmma_hold(d_q);
      hand_over_d_q();
    }

    ATTN_DEVICE int stage_before() const { return q.stage == 0 ? kQueryStages - 1 : q.stage - 1; }
    /// The warp no longer reads what the barrier guards.
    ATTN_DEVICE void release(uint32_t empty) const {
      __syncwarp();
      if (lane() == 0) barrier_arrive(empty);
    }
    ATTN_DEVICE uint32_t q_at(int stage) const {
      return address + kAtQ + static_cast<uint32_t>(stage * kQueryBytes);
    }
    ATTN_DEVICE uint32_t d_o_at() const {
      return address + kAtDO + static_cast<uint32_t>(d_o.stage * kQueryBytes);
    }

    /// rows += of the warpgroup's keys, K or V, times a tile of queries, Q or dO.
    ATTN_DEVICE void multiply(float (&sums)[kScores], int keys_at, uint32_t queries) const {
      const uint32_t keys = address + static_cast<uint32_t>(keys_at + group() * kBox);
      wgmma_fence();
      ATTN_UNROLL
      for (int k = 0; k < kWidth / 16; ++k) {
        wgmma_shared<T, kQueries, 0, 0>(sums, WgmmaOperand::along(keys, kKeys, k),
                                        WgmmaOperand::along(queries, kQueries, k), k > 0);
      }
      wgmma_commit();
    }
    ATTN_DEVICE void multiply_q() {
      barrier_wait(barriers.q_full(q.stage), q.parity);
      wgmma_forget(s);
      multiply(s, kAtK, q_at(q.stage));
    }
    ATTN_DEVICE void multiply_d_o() {
      barrier_wait(barriers.d_o_full(d_o.stage), d_o.parity);
      wgmma_forget(d);
      multiply(d, kAtV, d_o_at());
    }

    /// S and dP become P and dS. LSE and D of a column serve both rows of the thread.
    ATTN_DEVICE void weigh() {
      const float factor = args.scale * kLog2e;
      const Float2* lse = row_numbers(kAtLse, q.stage);
      ATTN_UNROLL
      for (int n = 0; n < kQueries / 8; ++n) {
        const Float2 of = lse[4 * n];
        s[4 * n] = exp2_approximate(fmaf(s[4 * n], factor, -of.x));
        s[4 * n + 1] = exp2_approximate(fmaf(s[4 * n + 1], factor, -of.y));
        s[4 * n + 2] = exp2_approximate(fmaf(s[4 * n + 2], factor, -of.x));
        s[4 * n + 3] = exp2_approximate(fmaf(s[4 * n + 3], factor, -of.y));
      }
      const Float2* mean = row_numbers(kAtMean, d_o.stage);
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
    /// Of the thread's columns.
    ATTN_DEVICE const Float2* row_numbers(int at, int stage) const {
      return reinterpret_cast<const Float2*>(shared + at + stage * kRowBytes) + lane() % 4;
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
    ATTN_DEVICE void clear_rows(uint32_t at, Unseen unseen) const {
      constexpr int kThreadsOfRow = 2 * kWarpgroupThreads / kRowCount;
      const int part = thread() - kWarpgroupThreads, row = part / kThreadsOfRow;
      if (!unseen(row)) return;
      ATTN_UNROLL
      for (int k = 0; k < kWidth / 8 / kThreadsOfRow; ++k) {
        const int piece = k * kThreadsOfRow + part % kThreadsOfRow;  // of 16 bytes
        shared_clear(at + static_cast<uint32_t>((piece / 8 * kRowCount + row) * 128 + piece % 8 * 16));
      }
    }
    /// K, for dQ. V only gets to weights that are hidden.
    ATTN_DEVICE void clear_keys() const {
      clear_rows<kKeys>(address + kAtK,
                        [this](int row) { return !args.tiles.is_seen(place, place.block * kKeys + row); });
      async_proxy_fence();
      named_sync<1, 2 * kWarpgroupThreads>();
    }
    /// Q and dO of this step, for dK and dV.
    ATTN_DEVICE void clear_queries() const {
      named_sync<1, 2 * kWarpgroupThreads>();  // S and dP of both warpgroups have read them
      const auto* lse = reinterpret_cast<const float*>(shared + kAtLse + q.stage * kRowBytes);
      const auto unseen = [=](int row) { return lse[row] == INFINITY; };
      clear_rows<kQueries>(q_at(q.stage), unseen);
      clear_rows<kQueries>(d_o_at(), unseen);
      async_proxy_fence();
      named_sync<1, 2 * kWarpgroupThreads>();
    }

    /// Four packed pairs, 16 columns from 16 k on of the warpgroup's 64 rows, into chunks of [128][64].
    ATTN_DEVICE void store_pairs(uint32_t at, int k, uint32_t p0, uint32_t p1, uint32_t p2,
                                 uint32_t p3) const {
      const int row = warp_row() + lane() % 16;
      const auto to =
          static_cast<uint32_t>(k / 4 * kKeys * 128) + swizzled_128(row, k % 4 * 16 + lane() / 16 * 8);
      stmatrix_x4(address + at + to, p0, p1, p2, p3);
    }
    /// P and dS as operands; dS also to shared memory.
    ATTN_DEVICE void exchange(int tile) {
      ATTN_UNROLL
      for (int k = 0; k < kScores / 2; ++k) {
        p_pairs[k] = pack<T>(s[2 * k], s[2 * k + 1]);
        d_pairs[k] = pack<T>(d[2 * k], d[2 * k + 1]);
      }
      if (args.tiles.is_partial(place, tile)) {
        hide(tile);
        if (args.tiles.has_unseen_rows()) clear_queries();
      }
      ATTN_UNROLL
      for (int k = 0; k < kSteps; ++k) {
        store_pairs(scores_at, k, d_pairs[4 * k], d_pairs[4 * k + 1], d_pairs[4 * k + 2], d_pairs[4 * k + 3]);
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
        wgmma_registers<T, kWidth, 1>(sums, operand + 4 * k, WgmmaOperand::across(queries, kQueries, k),
                                      true);
      }
      wgmma_commit();
    }
    ATTN_DEVICE void add_to_d_v() { add_product(d_v, p_pairs, d_o_at()); }
    ATTN_DEVICE void add_to_d_k(int stage) { add_product(d_k, d_pairs, q_at(stage)); }

    /// The warpgroup's half of dQ.
    ATTN_DEVICE void multiply_scores() {
      constexpr int kChunkBytes = kKeys * 128;
      const auto half = static_cast<uint32_t>(group() * kChunkBytes);
      const uint32_t scores = address + scores_at + (kWidth == 64 ? half : 0);
      const uint32_t keys = address + kAtK + (kWidth == 64 ? 0 : half);
      wgmma_forget(d_q);
      wgmma_fence();
      ATTN_UNROLL
      for (int k = 0; k < kKeys / 16; ++k) {
        wgmma_shared<T, 64, 1, 1>(d_q, WgmmaOperand::across(scores, kKeys, k),
                                  WgmmaOperand::across(keys, kKeys, k), k > 0);
      }
      wgmma_commit();
      scores_at = 2 * kAtDS + kScoreBytes - scores_at;
    }
    ATTN_DEVICE void hand_over_d_q() {
      auto* to =
          reinterpret_cast<Float4*>(shared + kAtDQ + group() * kSumBytes) + thread() % kWarpgroupThreads;
      if (group() == 0) {
        named_sync<4, kBoth>();
      } else {
        named_sync<5, kBoth>();
      }
      ATTN_UNROLL
      for (int n = 0; n < 8; ++n)
        to[n * kWarpgroupThreads] = {d_q[4 * n], d_q[4 * n + 1], d_q[4 * n + 2], d_q[4 * n + 3]};
      async_proxy_fence();
      if (group() == 0) {
        named_arrive<2, kBoth>();
      } else {
        named_arrive<3, kBoth>();
      }
    }

    /// dK and dV through the place of K and V, which nobody reads any more.
    ATTN_DEVICE void store() {
      named_sync<1, 2 * kWarpgroupThreads>();
      store_sums(d_v, kAtV, 1.0f);
      if (args.rope) rotate_back();
      store_sums(d_k, kAtK, args.scale);
      async_proxy_fence();
      if (group() == 0) {
        named_sync<6, kWarpgroupThreads>();
      } else {
        named_sync<7, kWarpgroupThreads>();
      }
      if (thread() % kWarpgroupThreads != 0) return;
      ATTN_UNROLL
      for (int chunk = 0; chunk < kChunks; ++chunk) {
        const uint32_t from = address + static_cast<uint32_t>(chunk * kKeys * 128 + group() * kBox);
        const int key = place.block * kKeys + 64 * group();
        tma_store(&args.d_v, from + kAtV, 64 * chunk, place.head_kv, key, place.b);
        tma_store(&args.d_k, from + kAtK, 64 * chunk, place.head_kv, key, place.b);
      }
      bulk_commit();
      bulk_wait_read<0>();
    }
    /// dK, through memory where Q and dO were: of each warp 16 rows.
    ATTN_DEVICE void rotate_back() {
      static_assert(kConsumingWarps * 16 * kWidth * 4 <= kAtDS - kAtQ);
      auto* rows = reinterpret_cast<float*>(shared + kAtQ) + warp_row() * kWidth;
      const auto each_sum = [&](auto visit) {
        ATTN_UNROLL
        for (int k = 0; k < kWidth / 2; ++k) {
          const Cell at = mma_c(lane(), k % 4);
          visit(rows[at.row * kWidth + k / 4 * 8 + at.column], d_k[k]);
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
    ATTN_DEVICE void store_sums(const float (&sums)[kWidth / 2], uint32_t at, float factor) const {
      ATTN_UNROLL
      for (int k = 0; k < kWidth / 16; ++k) {
        const auto pair = [&](int e) {
          return pack<T>(sums[8 * k + e] * factor, sums[8 * k + e + 1] * factor);
        };
        store_pairs(at, k, pair(0), pair(2), pair(4), pair(6));
      }
    }
  };
};

}  // namespace attn
