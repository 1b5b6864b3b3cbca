#pragma once
// The thread block of the Hopper rungs: rows of tiles, 64 queries for each warpgroup that computes, against
// the keys that they may see, tile by tile. TMA copies tiles into rings of buffers; wgmma multiplies them
// where they lie. `full` barriers say that a tile is there, `empty` barriers that its buffer may be filled
// again. One tile of keys through the kernel:
//
//   load:     wait for k_empty; TMA into the buffer; k_full ends when its bytes are there; the same for V
//   compute:  wait for k_full; S = Q K^T; every warp arrives at k_empty; softmax; wait for v_full; O += P V;
//             every warp arrives at v_empty
//
// Rungs (HopperRung), each keeping what those before it have:
//   specialised  one thread of a warpgroup of its own loads, and that warpgroup gives its registers away
//   overlap      Q K^T of tile j is issued before P V of tile j - 1, whose time the softmax of j then shares
//   pingpong     a warpgroup issues its products only in its turn, so that the exponentials of one run beside
//                the products of another
//   persistent   a block per multiprocessor; K, V and Q of the next row of tiles are loaded during the end of
//                the one before, and O leaves by TMA meanwhile; longest rows first (HopperSchedule)
//
// Order of loads: K of the first tile, Q, then K of the next tile before V of this one, as they are used.

#include "variants/flash/flash_hopper_rows.cuh"

namespace attn {

template <class T, int kWidth, FlashKind kKind, HopperRung kRung>
struct FlashHopper {
  using Element = T;
  using Rows = HopperRows<T, kWidth, kKind>;
  using Walk = typename Rows::Walk;
  using Place = typename Rows::Place;
  static constexpr int kRows = Rows::kRows;
  static constexpr int kKeys = Rows::kKeys;
  using Shared = HopperShared<kRows, kKeys, kWidth>;
  static constexpr int kConsumers = kRows / 64;
  static constexpr int kThreads = kWarpgroupThreads * (kConsumers + (kRung.specialised ? 1 : 0));
  static constexpr int kLoaderRegisters = kConsumers == 3 ? 32 : 24;
  static constexpr int kComputeRegisters = kConsumers == 3 ? 160 : 240;
  static_assert(kRung.specialised || !(kRung.overlap || kRung.pingpong || kRung.persistent),
                "the rungs above need a warpgroup that loads");
  static_assert(kRung.overlap || !(kRung.pingpong || kRung.persistent),
                "the rungs above are built into the overlapped loop");
  // Named barriers: turns from 1 on, a warpgroup's own from 4 on.
  static constexpr int kTurns = 1, kOwn = 4;

  FlashHopperArgs<T> args;

  /// The tiles may start at any multiple of 1024.
  static constexpr size_t shared_bytes() { return Shared::kBytes + 1024; }

#if defined(ATTN_HOPPER)
  using QueryRing = RingPlace<Shared::kQueryStages>;
  using TileRing = RingPlace<Shared::kStages>;
  using IndexRing = RingPlace<2>;

  __device__ __forceinline__ void run(const void* memory) const {
    const Shared shared{(shared_address(memory) + 1023) & ~1023u};
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) init(shared);
    __syncthreads();
    if constexpr (kRung.specialised) {
      if (uniform(thread / kWarpgroupThreads) == 0) {
        give_registers_back<kLoaderRegisters>();
        if (uniform(thread / kWarpLanes) == 0 && elect_one()) load_all(shared);
      } else {
        take_registers<kComputeRegisters>();
        Rows rows(args, thread - kWarpgroupThreads);
        compute_all(shared, rows);
      }
    } else {
      Rows rows(args, thread);
      load_and_compute(shared, rows);
    }
  }

 private:
  __device__ __forceinline__ void init(const Shared& shared) const {
    tma_prefetch_map(&args.q_map);
    tma_prefetch_map(&args.k_map);
    tma_prefetch_map(&args.v_map);
    tma_prefetch_map(&args.o_map);
    constexpr int kWarps = 4 * kConsumers;
    for (int stage = 0; stage < Shared::kStages; ++stage) {
      barrier_init(shared.k_full(stage), 1);
      barrier_init(shared.v_full(stage), 1);
      barrier_init(shared.k_empty(stage), kWarps);
      barrier_init(shared.v_empty(stage), kWarps);
    }
    for (int stage = 0; stage < Shared::kQueryStages; ++stage) {
      barrier_init(shared.q_full(stage), 1);
      barrier_init(shared.q_empty(stage), kWarps);
    }
    for (int stage = 0; stage < 2; ++stage) {
      barrier_init(shared.index_full(stage), 1);
      barrier_init(shared.index_empty(stage), kWarps);
    }
    barrier_init_fence();
  }

  // Loading: by one thread.

  __device__ __forceinline__ void load_queries(const Shared& shared, const Place& place,
                                               QueryRing& ring) const {
    barrier_wait(shared.q_empty(ring.stage), ring.parity ^ 1);
    const uint32_t full = shared.q_full(ring.stage);
    barrier_expect(full, Shared::kQueryBytes);
    ATTN_UNROLL
    for (int part = 0; part < kConsumers * (kWidth / 64); ++part) {
      const int group = part / (kWidth / 64), chunk = part % (kWidth / 64);
      tma_load(shared.queries(ring.stage) + static_cast<uint32_t>(part * 64 * 128), &args.q_map, full,
               64 * chunk, place.h, static_cast<int>(place.i0) + 64 * group, place.b, L2Hint::evict_first);
    }
    ring.advance();
  }
  __device__ __forceinline__ void load_tile(uint32_t to, const TensorMap& map, uint32_t full,
                                            const Place& place, int tile) const {
    barrier_expect(full, Shared::kTileBytes);
    ATTN_UNROLL
    for (int chunk = 0; chunk < kWidth / 64; ++chunk) {
      tma_load(to + static_cast<uint32_t>(chunk * kKeys * 128), &map, full, 64 * chunk, place.head_kv,
               tile * kKeys, place.b, L2Hint::evict_last);
    }
  }
  __device__ __forceinline__ void load_keys(const Shared& shared, const Place& place, int tile,
                                            TileRing& ring) const {
    barrier_wait(shared.k_empty(ring.stage), ring.parity ^ 1);
    load_tile(shared.keys(ring.stage), args.k_map, shared.k_full(ring.stage), place, tile);
    ring.advance();
  }
  __device__ __forceinline__ void load_values(const Shared& shared, const Place& place, int tile,
                                              TileRing& ring) const {
    barrier_wait(shared.v_empty(ring.stage), ring.parity ^ 1);
    load_tile(shared.values(ring.stage), args.v_map, shared.v_full(ring.stage), place, tile);
    ring.advance();
  }

  __device__ __forceinline__ void load_all(const Shared& shared) const {
    QueryRing q;
    TileRing k, v;
    IndexRing told;
    uint32_t index = blockIdx.x;
    while (index < args.schedule.count()) {
      const uint32_t following = take_next();  // early: the answer takes a microsecond
      const Walk walk = Walk::of(args, args.schedule.place(index));
      const int last = walk.place.last;
      int tile = walk.first(args);
      if (tile < last) load_keys(shared, walk.place, tile, k);
      load_queries(shared, walk.place, q);
      if constexpr (kRung.persistent) tell(shared, following, told);
      while (tile < last) {
        const int next = walk.next(args, tile + 1);
        if (next < last) load_keys(shared, walk.place, next, k);
        load_values(shared, walk.place, tile, v);
        tile = next;
      }
      index = following;
    }
  }
  /// The next row of tiles for this block. Every block is refused once, so all blocks together ask
  /// schedule.count() times, after which the counter is 0 again.
  __device__ __forceinline__ uint32_t take_next() const {
    if constexpr (!kRung.persistent) return UINT32_MAX;
    return gridDim.x + atomicInc(args.taken, args.schedule.count() - 1);
  }
  __device__ __forceinline__ void tell(const Shared& shared, uint32_t index, IndexRing& ring) const {
    barrier_wait(shared.index_empty(ring.stage), ring.parity ^ 1);
    shared_store(shared.index(ring.stage), static_cast<int>(index));
    barrier_arrive(shared.index_full(ring.stage));
    ring.advance();
  }

  // Computing: by whole warpgroups. Every warp arrives for itself.

  __device__ __forceinline__ static void release(const Rows& rows, uint32_t barrier) {
    if (rows.lane == 0) barrier_arrive(barrier);
  }
  __device__ __forceinline__ uint32_t queries_of(const Shared& shared, const Rows& rows, int stage) const {
    return shared.queries(stage) + static_cast<uint32_t>(rows.group * 64 * kWidth * 2);
  }

  __device__ __forceinline__ void compute_all(const Shared& shared, Rows& rows) const {
    QueryRing q;
    TileRing k, v;
    IndexRing told;
    if (rows.group == 0) pass_turn(kConsumers - 1);  // the first turn is the first warpgroup's
    int sent = -1;  ///< stage of queries that O of the row before is leaving from
    uint32_t index = blockIdx.x;
    while (index < args.schedule.count()) {
      const Walk walk = Walk::of(args, args.schedule.place(index));
      barrier_wait(shared.q_full(q.stage), q.parity);
      const uint32_t queries = queries_of(shared, rows, q.stage);
      rows.start();
      int tile = walk.first(args);
      if constexpr (kRung.overlap) {
        if (tile < walk.place.last) {
          compute_overlapped(shared, rows, walk, tile, queries, sent, k, v);
        } else {
          release_queries(shared, rows, sent);
        }
      } else {
        for (; tile < walk.place.last; tile = walk.next(args, tile + 1)) {
          compute_tile(shared, rows, walk, tile, queries, k, v);
        }
      }
      finish(rows, walk.place, queries);
      sent = q.stage;
      q.advance();
      if constexpr (Shared::kQueryStages == 1) {
        release_queries(shared, rows, sent);  // the next queries come into the same place
        sent = -1;
      }
      index = UINT32_MAX;
      if constexpr (kRung.persistent) index = listen(shared, rows, told);
    }
    if (rows.lane == 0) bulk_wait_read<0>();  // shared memory ends with the block
  }

  /// Q K^T, softmax, P V, one after the other.
  __device__ __forceinline__ void compute_tile(const Shared& shared, Rows& rows, const Walk& walk, int tile,
                                               uint32_t queries, TileRing& k, TileRing& v) const {
    barrier_wait(shared.k_full(k.stage), k.parity);
    rows.multiply_keys(queries, shared.keys(k.stage));
    rows.template wait_scores<0>();
    release(rows, shared.k_empty(k.stage));
    k.advance();
    float correction[2];
    if (rows.weigh(walk, tile, correction)) rows.rescale(correction);
    rows.pack_weights();
    barrier_wait(shared.v_full(v.stage), v.parity);
    rows.multiply_values(shared.values(v.stage));
    rows.wait_values();
    release(rows, shared.v_empty(v.stage));
    v.advance();
  }

  /// All tiles from the first one on, which exists. The stage `sent` is released behind the first product,
  /// when O has long left it.
  __device__ __forceinline__ void compute_overlapped(const Shared& shared, Rows& rows, const Walk& walk,
                                                     int tile, uint32_t queries, int sent, TileRing& k,
                                                     TileRing& v) const {
    float correction[2];
    barrier_wait(shared.k_full(k.stage), k.parity);
    rows.multiply_keys(queries, shared.keys(k.stage));
    release_queries(shared, rows, sent);
    rows.template wait_scores<0>();
    release(rows, shared.k_empty(k.stage));
    k.advance();
    rows.weigh(walk, tile, correction);
    rows.pack_weights();
    for (tile = walk.next(args, tile + 1); tile < walk.place.last; tile = walk.next(args, tile + 1)) {
      barrier_wait(shared.k_full(k.stage), k.parity);
      await_turn(rows.group);
      rows.multiply_keys(queries, shared.keys(k.stage));
      barrier_wait(shared.v_full(v.stage), v.parity);
      rows.multiply_values(shared.values(v.stage));
      pass_turn(rows.group);
      rows.template wait_scores<1>();
      release(rows, shared.k_empty(k.stage));
      k.advance();
      const bool moved = rows.weigh(walk, tile, correction);
      rows.wait_values();
      release(rows, shared.v_empty(v.stage));
      v.advance();
      rows.pack_weights();
      if (moved) rows.rescale(correction);
    }
    barrier_wait(shared.v_full(v.stage), v.parity);
    rows.multiply_values(shared.values(v.stage));
    rows.wait_values();
    release(rows, shared.v_empty(v.stage));
    v.advance();
  }

  /// O to memory: from registers to the place of the warpgroup's queries, from there by TMA.
  __device__ __forceinline__ void finish(Rows& rows, const Place& place, uint32_t queries) const {
    float inverse[2];
    rows.normalise(place, inverse);
    sync_group(rows.group);  // no warp's products read the queries any longer
    rows.stage_output(queries);
    if constexpr (Rows::kMasked) rows.repair(place, inverse, queries);
    async_proxy_fence();
    __syncwarp();
    if (rows.lane == 0) rows.send_output(queries, place);
    __syncwarp();
  }
  /// When O has left them; nothing for stage -1.
  __device__ __forceinline__ void release_queries(const Shared& shared, const Rows& rows, int stage) const {
    if (stage < 0) return;
    if (rows.lane == 0) {
      bulk_wait_read<0>();
      barrier_arrive(shared.q_empty(stage));
    }
    __syncwarp();
  }
  __device__ __forceinline__ uint32_t listen(const Shared& shared, const Rows& rows, IndexRing& ring) const {
    barrier_wait(shared.index_full(ring.stage), ring.parity);
    const auto index = static_cast<uint32_t>(uniform(shared_load(shared.index(ring.stage))));
    release(rows, shared.index_empty(ring.stage));
    ring.advance();
    return index;
  }

  // Turns: barrier kTurns + g lets warpgroup g go on when it has arrived itself and its predecessor has.

  __device__ __forceinline__ static void await_turn(int group) {
    if constexpr (!kRung.pingpong) return;
    constexpr int kBoth = 2 * kWarpgroupThreads;
    if (group == 0) {
      named_sync<kTurns, kBoth>();
    } else if (kConsumers == 2 || group == 1) {
      named_sync<kTurns + 1, kBoth>();
    } else {
      named_sync<kTurns + 2, kBoth>();
    }
  }
  /// Of warpgroup `group` to the one behind it.
  __device__ __forceinline__ static void pass_turn(int group) {
    if constexpr (!kRung.pingpong) return;
    constexpr int kBoth = 2 * kWarpgroupThreads;
    if (group == kConsumers - 1) {
      named_arrive<kTurns, kBoth>();
    } else if (kConsumers == 2 || group == 0) {
      named_arrive<kTurns + 1, kBoth>();
    } else {
      named_arrive<kTurns + 2, kBoth>();
    }
  }
  __device__ __forceinline__ static void sync_group(int group) {
    if (group == 0) {
      named_sync<kOwn, kWarpgroupThreads>();
    } else if (group == 1) {
      named_sync<kOwn + 1, kWarpgroupThreads>();
    } else {
      named_sync<kOwn + 2, kWarpgroupThreads>();
    }
  }

  // The rung without a warpgroup that loads: the block's first thread loads a tile ahead.

  __device__ __forceinline__ void load_and_compute(const Shared& shared, Rows& rows) const {
    const bool loads = threadIdx.x == 0;
    QueryRing q;
    TileRing k, v, loaded_k, loaded_v;
    const Walk walk = Walk::of(args, args.schedule.place(blockIdx.x));
    const uint32_t queries = queries_of(shared, rows, 0);
    int tile = walk.first(args);
    if (loads) {
      load_queries(shared, walk.place, q);
      if (tile < walk.place.last) {
        load_keys(shared, walk.place, tile, loaded_k);
        load_values(shared, walk.place, tile, loaded_v);
      }
    }
    __syncwarp();
    barrier_wait(shared.q_full(0), 0);
    rows.start();
    while (tile < walk.place.last) {
      const int next = walk.next(args, tile + 1);
      if (loads && next < walk.place.last) {
        load_keys(shared, walk.place, next, loaded_k);
        load_values(shared, walk.place, next, loaded_v);
      }
      __syncwarp();
      compute_tile(shared, rows, walk, tile, queries, k, v);
      tile = next;
    }
    finish(rows, walk.place, queries);
    if (rows.lane == 0) bulk_wait_read<0>();
  }
#endif
};

#if defined(__CUDACC__)
template <class Body>
__global__ void __launch_bounds__(Body::kThreads, 1) hopper_kernel(const __grid_constant__ Body body) {
#if defined(ATTN_SM90A)
  extern __shared__ Float4 attn_shared[];
  body.run(attn_shared);
#endif
}
#endif

}  // namespace attn
