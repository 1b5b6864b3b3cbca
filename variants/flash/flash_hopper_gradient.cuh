#pragma once
// The thread block of flash/cuda/hopper's backward: dK and dV of 128 keys, and its part of dQ.
//
//   S^T = K Q^T      A K (K-major), B Q (K-major), both shared     [64 keys, queries] a warpgroup
//   dP^T = V dO^T    A V, B dO alike
//   dV += P^T dO     A P^T in registers as S^T left it, B dO (MN-major)
//   dK += dS^T Q     A dS^T in registers, B Q (MN-major)
//   dQ = dS K        A dS^T in shared memory, transposed (MN-major), B K (MN-major)
// P = 2^(S scale log2(e) - LSE), dS = P (dP - D); ALiBi is added to the exponent, a softcap bends S and its
// slope is a factor of dS. Each warpgroup holds dK and dV of 64 keys in registers and computes a half of dQ
// over all 128 keys: of the channels at width 128, of the queries at width 64.
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
// warpgroups (256), once a step, and around what is zeroed; dS has two buffers, so that who writes one has
// met everybody after their reading it. 2 + w, 4 + w (160): dQ of warpgroup w is in shared memory, has been
// read from there.
//
// Bytes at width 64 (tiles of 128 queries) and 128 (64 queries): K 16384 32768, V the same, Q 3 * 16384, dO
// 2 * 16384, dS 2 * 32768 2 * 16384, dQ 2 * 16384, LSE 3 * 512 3 * 256, D 2 * 512 2 * 256, barriers and
// place: with 1024 for alignment 216700 and 215420 of 232448.
//
// Rows that nothing sees are outside the tensor maps, so that NaN there is never read; where they lie between
// others or batch entries differ in them, they are zeroed in shared memory. In partial tiles hidden weights
// are selected to be 0; NaN in a row that some but not all of its tile see gets to all.
//
// Method: Dao, "FlashAttention-2", 2023, algorithm 2; Shah et al., "FlashAttention-3", 2024, for the roles.
// Measured effect: README.md.

#include "variants/flash/flash_hopper_gradient_rows.cuh"

namespace attn {

/// kWidth: padded head_dim and value_dim.
template <class T, int kWidth, GradientKind kKind>
struct FlashHopperGradient {
  using Place = HopperGradientTiles::Place;
  using Shared = HopperGradientShared<kWidth>;
  static constexpr int kThreads = 3 * kWarpgroupThreads;
  static constexpr int kConsumingWarps = 8;
  static constexpr int kLoaderRegisters = 24, kConsumerRegisters = 240;
  static constexpr int kAlignment = 1024;
  static constexpr size_t shared_bytes() { return Shared::kBytes + kAlignment; }
  static_assert(shared_bytes() <= 232448, "the most that a thread block gets");
  static_assert(QueryRows::kMultiple % Shared::kQueries == 0, "LSE and D are there for whole tiles");

  HopperGradientArgs args;

  ATTN_DEVICE void run(void* memory) const {
    const uint32_t unaligned = shared_address(memory);
    char* shared = static_cast<char*>(memory) + (kAlignment - unaligned % kAlignment) % kAlignment;
    const Shared at{shared_address(shared)};
    auto* place = reinterpret_cast<Place*>(shared + Shared::kAtPlace);
    if (threadIdx.x == 0) {
      *place = args.tiles.place_of(atomicInc(args.sums.ticket(), 0xffffffffu));
      barrier_init(at.keys_full(), 1);
      for (int k = 0; k < Shared::kQueryStages; ++k) {
        barrier_init(at.q_full(k), 1);
        barrier_init(at.q_empty(k), kConsumingWarps);
      }
      for (int k = 0; k < Shared::kGradientStages; ++k) {
        barrier_init(at.d_o_full(k), 1);
        barrier_init(at.d_o_empty(k), kConsumingWarps);
      }
      barrier_init_fence();
    }
    __syncthreads();
    const int warp = uniform(static_cast<int>(threadIdx.x) / kWarpLanes);
    if (warp < 4) {
      give_registers_back<kLoaderRegisters>();
      if (warp == 0 && threadIdx.x == 0) load(*place, at);
      if (warp == 1) add_up(*place, at);
    } else {
      take_registers<kConsumerRegisters>();
      HopperGradientRows<T, kWidth, kKind>(args, *place, shared, at).run();
    }
  }

 private:
  // Warp 0 ---------------------------------------------------------------------------------------------

  /// kRowCount rows of a head, in chunks of 64 channels.
  template <int kRowCount>
  ATTN_DEVICE static void load_tile(uint32_t to, const void* map, uint32_t barrier, int head, int row, int b,
                                    L2Hint hint) {
    ATTN_UNROLL
    for (int chunk = 0; chunk < kWidth / 64; ++chunk) {
      ATTN_UNROLL
      for (int part = 0; part < kRowCount / 64; ++part) {
        tma_load(to + static_cast<uint32_t>((chunk * (kRowCount / 64) + part) * Shared::kBox), map, barrier,
                 64 * chunk, head, row + 64 * part, b, hint);
      }
    }
  }

  ATTN_DEVICE void load(const Place& place, const Shared& at) const {
    if (place.count == 0) return;
    const int key = place.block * Shared::kKeys - args.first_key;
    barrier_expect(at.keys_full(), 2 * Shared::kKeyBytes);
    load_tile<Shared::kKeys>(at.k(), &args.k, at.keys_full(), place.head_kv, key, place.b,
                             L2Hint::evict_first);
    load_tile<Shared::kKeys>(at.v(), &args.v, at.keys_full(), place.head_kv, key, place.b,
                             L2Hint::evict_first);
    RingPlace<Shared::kQueryStages> q;
    RingPlace<Shared::kGradientStages> d_o;
    const int first_head = place.head_kv * args.tiles.group;
    for (int head = first_head; head < first_head + args.tiles.group; ++head) {
      int tile = place.last - 1;
      for (int left = place.count; left > 0; --left, tile = args.tiles.after(place, tile)) {
        const int query = tile * Shared::kQueries;
        const int64_t row = args.queries.at(place.b, args.heads_q, head, query);
        uint32_t full = at.q_full(q.stage);
        barrier_wait(at.q_empty(q.stage), q.parity ^ 1);
        barrier_expect(full, Shared::kQueryBytes + Shared::kRowBytes);
        load_tile<Shared::kQueries>(at.q(q.stage), &args.q, full, head, query - args.first_query, place.b,
                                    L2Hint::evict_last);
        bulk_load(at.lse(q.stage), args.queries.lse + row, Shared::kRowBytes, full);
        full = at.d_o_full(d_o.stage);
        barrier_wait(at.d_o_empty(d_o.stage), d_o.parity ^ 1);
        barrier_expect(full, Shared::kQueryBytes + Shared::kRowBytes);
        load_tile<Shared::kQueries>(at.d_o(d_o.stage), &args.d_o, full, head, query - args.first_query,
                                    place.b, L2Hint::evict_last);
        bulk_load(at.mean(d_o.stage), args.queries.mean + row, Shared::kRowBytes, full);
        q.advance();
        d_o.advance();
      }
    }
  }

  // Warp 1 ---------------------------------------------------------------------------------------------

  ATTN_DEVICE void add_up(const Place& place, const Shared& at) const {
    const bool acting = threadIdx.x % kWarpLanes == 0;
    int left = args.tiles.group * place.count;
    if (left == 0) return;
    named_arrive<4, Shared::kBoth>();
    named_arrive<5, Shared::kBoth>();
    const int64_t first_head = int64_t{place.b} * args.heads_q + place.head_kv * args.tiles.group;
    int64_t row = first_head * args.tiles.query_tiles;  // of the head's tile 0
    int tile = place.last - 1;
    while (left-- > 0) {
      const int rank = args.tiles.rank(place, tile);
      float* to = args.sums.sums + (row + tile) * (2 * HopperQuerySums::kHalf);
      uint32_t* counter = args.sums.counters + row + tile;
      named_sync<2, Shared::kBoth>();
      if (acting) {
        if (rank > 0) counter_wait(counter, static_cast<uint32_t>(rank));
        add(to, at.d_q(0), rank);
      }
      __syncwarp();
      named_sync<3, Shared::kBoth>();
      if (acting) {
        add(to + HopperQuerySums::kHalf, at.d_q(1), rank);
        bulk_wait_read<1>();
      }
      __syncwarp();
      if (left > 0) named_arrive<4, Shared::kBoth>();
      if (acting) bulk_wait_read<0>();
      __syncwarp();
      if (left > 0) named_arrive<5, Shared::kBoth>();
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
      bulk_add(to, from, Shared::kSumBytes);
    } else {
      bulk_store(to, from, Shared::kSumBytes);
    }
    bulk_commit();
  }
};

}  // namespace attn
