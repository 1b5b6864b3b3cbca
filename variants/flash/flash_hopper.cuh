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
// Order of loads: K of the first tile, Q, then K of the next tile before V of this one, as they are used. The
// number of the next row of tiles, which a counter in memory gives, is told behind them, and computing
// warpgroups look the row up beside their last P V.

#include "variants/flash/flash_hopper_rows.cuh"

namespace attn {

template <class T, int kWidth, HopperKind kKind, HopperRung kRung,
          HopperTiling kTiling = hopper_tiling(kWidth, kKind)>
struct FlashHopper {
  using Element = T;
  using Rows = HopperRows<T, kWidth, kKind, kTiling>;
  using Walk = typename Rows::Walk;
  using Place = typename Rows::Place;
  static constexpr int kRows = Rows::kRows;
  static constexpr int kKeys = Rows::kKeys;
  using Shared = HopperShared<kRows, kKeys, kWidth, Rows::kBiased>;
  static constexpr bool kPersistent = kRung.persistent;
  static constexpr int kConsumers = kRows / 64;
  static constexpr int kThreads = kWarpgroupThreads * (kConsumers + (kRung.specialised ? 1 : 0));
  /// Walking over a mask's tiles takes more registers than loading; where O takes half of them, only a
  /// softcap leaves as many.
  static constexpr bool kLoaderWalks =
      Rows::kCapped || Rows::kRope || (Rows::kMasked && kWidth < 256 && !Rows::kShaw);
  static constexpr int kLoaderRegisters = kConsumers == 3 ? 32 : kLoaderWalks ? 40 : 24;
  static constexpr int kComputeRegisters = kConsumers == 3 ? 160 : kLoaderWalks ? 232 : 240;
  static_assert(kRung.specialised || !(kRung.overlap || kRung.pingpong || kRung.persistent),
                "the rungs above need a warpgroup that loads");
  static constexpr bool kTakeTurns = kRung.pingpong && kConsumers > 1;
  static_assert(kRung.overlap || !(kRung.pingpong || kRung.persistent),
                "the rungs above are built into the overlapped loop");
  /// Warps of the loading warpgroup that rotate queries.
  static constexpr int kRotators = 3;
  static_assert(!Rows::kRope || (kPersistent && kConsumers > 1));
  // Named barriers: turns from 1 on, a warpgroup's own from 4 on.
  static constexpr int kTurns = 1, kOwn = 4;

  FlashHopperArgs<T> args;

  /// The tiles may start at any multiple of 1024.
  static constexpr size_t shared_bytes() { return Shared::kBytes + 1024; }

#if defined(ATTN_HOPPER)
  using RowRing = RingPlace<Shared::kQueryStages>;  ///< queries, and the index of the row behind
  using TileRing = RingPlace<Shared::kStages>;

  ATTN_DEVICE void run(const void* memory) const {
    const Shared shared{(shared_address(memory) + 1023) & ~1023u};
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) init(shared);
    __syncthreads();
    if constexpr (kRung.specialised) {
      if (uniform(thread / kWarpgroupThreads) == 0) {
        if constexpr (kConsumers > 1) give_registers_back<kLoaderRegisters>();
        const int warp = uniform(thread / kWarpLanes);
        if (warp == 0) {
          if (elect_one()) load_all(shared);
        } else if constexpr (Rows::kRope) {
          rotate_all(shared, thread - kWarpLanes);
        }
      } else {
        if constexpr (kConsumers > 1) take_registers<kComputeRegisters>();
        Rows rows(args, thread - kWarpgroupThreads);
        if constexpr (kRung.overlap) {
          compute_overlapped(shared, rows);
        } else {
          compute_in_order(shared, rows);
        }
      }
    } else {
      Rows rows(args, thread);
      load_and_compute(shared, rows);
    }
  }

 private:
  ATTN_DEVICE void init(const Shared& shared) const {
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
      barrier_init(shared.q_full(stage), Rows::kRope ? kRotators : 1);
      if constexpr (Rows::kRope) barrier_init(shared.q_loaded(stage), 1);
      barrier_init(shared.q_empty(stage), kWarps);
      barrier_init(shared.index_full(stage), 1);
      barrier_init(shared.index_empty(stage), kWarps + (Rows::kRope ? kRotators : 0));
    }
    barrier_init_fence();
  }

  ATTN_DEVICE HopperSchedule::Row row_of_tiles(uint32_t index) const {
    return args.schedule.template at<Rows::kPacked>(index);
  }

  // Loading: by one thread.

  ATTN_DEVICE void load_queries(const Shared& shared, const Place& place, const RowRing& ring) const {
    barrier_wait(shared.q_empty(ring.stage), ring.parity ^ 1);
    const uint32_t full = Rows::kRope ? shared.q_loaded(ring.stage) : shared.q_full(ring.stage);
    barrier_expect(full, Shared::kQueryBytes);
    ATTN_UNROLL
    for (int part = 0; part < kConsumers * (kWidth / 64); ++part) {
      const int group = part / (kWidth / 64), chunk = part % (kWidth / 64);
      tma_load(shared.queries(ring.stage) + static_cast<uint32_t>(part * 64 * 128), &args.q_map, full,
               64 * chunk, place.h, static_cast<int>(place.i0) + Walk::Tiles::query_of(args, 64 * group),
               place.b, L2Hint::evict_first);
    }
  }
  template <int kChannels>
  ATTN_DEVICE void load_tile(uint32_t to, const TensorMap& map, uint32_t full, const Place& place,
                             int tile) const {
    ATTN_UNROLL
    for (int chunk = 0; chunk < kChannels / 64; ++chunk) {
      tma_load(to + static_cast<uint32_t>(chunk * kKeys * 128), &map, full, 64 * chunk, place.head_kv,
               tile * kKeys, place.b, L2Hint::evict_last);
    }
  }
  ATTN_DEVICE void load_keys(const Shared& shared, const Place& place, int tile, TileRing& ring) const {
    barrier_wait(shared.k_empty(ring.stage), ring.parity ^ 1);
    const uint32_t full = shared.k_full(ring.stage);
    const bool biased = Rows::kBiased && args.bias.rows;
    barrier_expect(full, Shared::kKeyBytes + (biased ? Shared::kBiasBytes : 0));
    load_tile<kWidth>(shared.keys(ring.stage), args.k_map, full, place, tile);
    if (biased) {
      const float* first = args.bias.head(place.h) + place.i0 - tile * int64_t{kKeys} - (kKeys - 1);
      bulk_load(shared.bias(ring.stage), first, Shared::kBiasBytes, full);
    }
    ring.advance();
  }
  ATTN_DEVICE void load_values(const Shared& shared, const Place& place, int tile, TileRing& ring) const {
    barrier_wait(shared.v_empty(ring.stage), ring.parity ^ 1);
    const uint32_t full = shared.v_full(ring.stage);
    barrier_expect(full, Shared::kValueBytes);
    load_tile<Rows::kValueWidth>(shared.values(ring.stage), args.v_map, full, place, tile);
    ring.advance();
  }

  ATTN_DEVICE void load_all(const Shared& shared) const {
    RowRing q;
    TileRing k, v;
    uint32_t index = blockIdx.x;
    while (index < args.schedule.count()) {
      const uint32_t following = take_next();  // the answer takes a microsecond, beside the loads
      Walk walk = Walk::of(args, row_of_tiles(index));
      int visit = walk.first(args);
      if (walk.more(visit)) load_keys(shared, walk.place, walk.tile(visit), k);
      load_queries(shared, walk.place, q);
      while (walk.more(visit)) {
        walk.fetch(args, visit);
        const int next = walk.next(args, visit);
        if (walk.more(next)) load_keys(shared, walk.place, walk.tile(next), k);
        load_values(shared, walk.place, walk.tile(visit), v);
        visit = next;
      }
      if constexpr (kRung.persistent) tell(shared, following, q);
      q.advance();
      index = following;
    }
  }
  /// The next row of tiles for this block. Every block is refused once, so all blocks together ask
  /// schedule.count() times, after which the counter is 0 again.
  ATTN_DEVICE uint32_t take_next() const {
    if constexpr (!kRung.persistent) return UINT32_MAX;
    return gridDim.x + atomicInc(args.taken, args.schedule.count() - 1);
  }
  ATTN_DEVICE void tell(const Shared& shared, uint32_t index, const RowRing& ring) const {
    barrier_wait(shared.index_empty(ring.stage), ring.parity ^ 1);
    shared_store(shared.index(ring.stage), static_cast<int>(index));
    barrier_arrive(shared.index_full(ring.stage));
  }

  // Rotating queries between their arrival and q_full.

  ATTN_DEVICE void rotate_all(const Shared& shared, int thread) const {
    RowRing q;
    uint32_t index = blockIdx.x;
    while (index < args.schedule.count()) {
      const uint32_t i0 = args.schedule.at(index).number * kRows,
                     left = static_cast<uint32_t>(args.seq_q) - i0;
      barrier_wait(shared.q_loaded(q.stage), q.parity);
      args.rope.template rotate_tile<T, kWidth>(shared.queries(q.stage), i0,
                                                static_cast<int>(min(left, uint32_t{kRows})), thread,
                                                kRotators * kWarpLanes);
      async_proxy_fence();
      __syncwarp();
      if (elect_one()) barrier_arrive(shared.q_full(q.stage));
      index = next_index(shared, elect_one(), q);
    }
  }

  // Computing: by whole warpgroups. Every warp arrives for itself.

  ATTN_DEVICE static void release(const Rows& rows, uint32_t barrier) {
    if (rows.lane == 0) barrier_arrive(barrier);
  }
  ATTN_DEVICE uint32_t queries_of(const Shared& shared, const Rows& rows, int stage) const {
    return shared.queries(stage) + static_cast<uint32_t>(rows.group * 64 * kWidth * 2);
  }

  /// One row of tiles, without overlap.
  ATTN_DEVICE void compute_in_order(const Shared& shared, Rows& rows) const {
    TileRing k, v;
    Walk walk = Walk::of(args, row_of_tiles(blockIdx.x));
    const uint32_t queries = queries_of(shared, rows, 0);
    rows.start();
    barrier_wait(shared.q_full(0), 0);
    for (int visit = walk.first(args); walk.more(visit); visit = walk.next(args, visit)) {
      walk.fetch(args, visit);
      compute_tile(shared, rows, walk, visit, queries, k, v);
    }
    finish(rows, walk.place, queries);
    if (rows.lane == 0) bulk_wait_read<0>();  // shared memory ends with the block
  }

  /// When the next row of tiles is looked up: beside the last P V of this one is best, but registers decide.
  enum class LookUp { before_products, beside_products, after_row };
  static constexpr LookUp kLookUp = Rows::kShaw                        ? LookUp::after_row
                                    : kConsumers == 3 && Rows::kMasked ? LookUp::before_products
                                                                       : LookUp::beside_products;
  /// Whether the first Q K^T of a row of tiles may run beside the end of the row before. It needs a second
  /// place for queries.
  static constexpr bool kAhead = kRung.persistent && Shared::kQueryStages > 1 && kLookUp != LookUp::after_row;

  /// Rows of tiles, in each of which Q K^T of the first tile is done before, and P V of the last one after
  /// compute_tiles().
  ATTN_DEVICE void compute_overlapped(const Shared& shared, Rows& rows) const {
    RowRing q;
    TileRing k, v;
    if (rows.group == 0) pass_turn(kConsumers - 1);  // the first turn is the first warpgroup's
    int sent = -1;  // stage of queries that O of the row before is leaving from
    Walk walk = Walk::of(args, row_of_tiles(blockIdx.x));
    int visit = walk.first(args);
    first_scores(shared, rows, walk, visit, q, k);
    for (bool more = true; more;) {
      const Place place = walk.place;
      const bool any = walk.more(visit);
      const uint32_t queries = queries_of(shared, rows, q.stage);
      rows.start();
      if (any) compute_tiles(shared, rows, walk, visit, queries, sent, k, v);
      if (!any) release_queries(shared, rows, sent);
      sent = q.stage;
      if (any) {
        if constexpr (kLookUp == LookUp::before_products) more = next_row(shared, rows, walk, visit, q);
        barrier_wait(shared.v_full(v.stage), v.parity);
        rows.multiply_values(shared.values(v.stage));
        if constexpr (kLookUp == LookUp::beside_products) more = next_row(shared, rows, walk, visit, q);
        if (kAhead && more && walk.more(visit)) {
          barrier_wait(shared.q_full(q.stage), q.parity);
          barrier_wait(shared.k_full(k.stage), k.parity);
          rows.multiply_keys(queries_of(shared, rows, q.stage), shared.keys(k.stage));
          rows.template wait_values<1>();
          release(rows, shared.v_empty(v.stage));
          v.advance();
          finish(rows, place, queries);
          rows.template wait_scores<0>();
          continue;
        }
        rows.template wait_values<0>();
        release(rows, shared.v_empty(v.stage));
        v.advance();
      } else if constexpr (kLookUp != LookUp::after_row) {
        more = next_row(shared, rows, walk, visit, q);
      }
      finish(rows, place, queries);
      if constexpr (kLookUp == LookUp::after_row) more = next_row(shared, rows, walk, visit, q);
      if (!more) break;
      if constexpr (Shared::kQueryStages == 1) {
        release_queries(shared, rows, sent);  // the next queries come into the same place
        sent = -1;
      }
      first_scores(shared, rows, walk, visit, q, k);
    }
    if (rows.lane == 0) bulk_wait_read<0>();  // shared memory ends with the block
  }
  /// Waits for a row's queries, and for Q K^T of its first tile, if it has one.
  ATTN_DEVICE void first_scores(const Shared& shared, Rows& rows, const Walk& walk, int visit,
                                const RowRing& q, const TileRing& k) const {
    barrier_wait(shared.q_full(q.stage), q.parity);
    if (!walk.more(visit)) return;
    barrier_wait(shared.k_full(k.stage), k.parity);
    rows.multiply_keys(queries_of(shared, rows, q.stage), shared.keys(k.stage));
    rows.template wait_scores<0>();
  }

  /// All tiles of a row, from the scores of the first to the weights of the last.
  ATTN_DEVICE void compute_tiles(const Shared& shared, Rows& rows, Walk& walk, int visit, uint32_t queries,
                                 int sent, TileRing& k, TileRing& v) const {
    float correction[2];
    walk.fetch(args, visit);
    weigh(shared, rows, walk, visit, k, correction);
    rows.pack_weights();
    release_queries(shared, rows, sent);  // O has long left them
    for (visit = walk.next(args, visit); walk.more(visit); visit = walk.next(args, visit)) {
      barrier_wait(shared.k_full(k.stage), k.parity);
      await_turn(rows.group);
      rows.multiply_keys(queries, shared.keys(k.stage));
      barrier_wait(shared.v_full(v.stage), v.parity);
      rows.multiply_values(shared.values(v.stage));
      pass_turn(rows.group);
      walk.fetch(args, visit);
      rows.template wait_scores<1>();
      const bool moved = weigh(shared, rows, walk, visit, k, correction);
      rows.weights_are_done(shared.unread(4 * rows.group + rows.warp));
      rows.template wait_values<0>();
      release(rows, shared.v_empty(v.stage));
      v.advance();
      rows.pack_weights();
      if (moved) rows.rescale(correction);
    }
  }

  /// HopperRows::weigh. K has been multiplied; its buffer is free, where biases came with it after they are
  /// read.
  ATTN_DEVICE bool weigh(const Shared& shared, Rows& rows, const Walk& walk, int visit, TileRing& k,
                         float (&correction)[2]) const {
    const int stage = k.stage;
    k.advance();
    if constexpr (!Rows::kBiased) release(rows, shared.k_empty(stage));
    const bool moved = rows.weigh(walk, visit, shared.bias(stage), correction);
    if constexpr (Rows::kBiased) {
      __syncwarp();
      release(rows, shared.k_empty(stage));
    }
    return moved;
  }

  /// Q K^T, softmax, P V, one after the other.
  ATTN_DEVICE void compute_tile(const Shared& shared, Rows& rows, const Walk& walk, int visit,
                                uint32_t queries, TileRing& k, TileRing& v) const {
    barrier_wait(shared.k_full(k.stage), k.parity);
    rows.multiply_keys(queries, shared.keys(k.stage));
    rows.template wait_scores<0>();
    float correction[2];
    if (weigh(shared, rows, walk, visit, k, correction)) rows.rescale(correction);
    rows.pack_weights();
    barrier_wait(shared.v_full(v.stage), v.parity);
    rows.multiply_values(shared.values(v.stage));
    rows.template wait_values<0>();
    release(rows, shared.v_empty(v.stage));
    v.advance();
  }

  /// O to memory: from registers to the place of the warpgroup's queries, from there by TMA.
  ATTN_DEVICE void finish(Rows& rows, const Place& place, uint32_t queries) const {
    if constexpr (Rows::kPacked) {
      if (args.splits > 1) return rows.store_split(place);
    }
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
  ATTN_DEVICE void release_queries(const Shared& shared, const Rows& rows, int stage) const {
    if (stage < 0) return;
    if (rows.lane == 0) {
      bulk_wait_read<0>();
      barrier_arrive(shared.q_empty(stage));
    }
    __syncwarp();
  }
  /// What tell() told, to a whole warp; `arrives`: in one of its lanes.
  ATTN_DEVICE static uint32_t next_index(const Shared& shared, bool arrives, RowRing& ring) {
    barrier_wait(shared.index_full(ring.stage), ring.parity);
    const auto index = static_cast<uint32_t>(uniform(shared_load(shared.index(ring.stage))));
    if (arrives) barrier_arrive(shared.index_empty(ring.stage));
    ring.advance();
    return index;
  }
  /// Whether the block has another row of tiles; then that row and its first visit.
  ATTN_DEVICE bool next_row(const Shared& shared, const Rows& rows, Walk& walk, int& visit,
                            RowRing& ring) const {
    if constexpr (!kRung.persistent) return false;
    const uint32_t index = next_index(shared, rows.lane == 0, ring);
    const bool more = index < args.schedule.count();
    if (kLookUp == LookUp::beside_products || more) {  // beside products a branch would end their pipeline
      walk = Walk::of(args, row_of_tiles(more ? index : 0));
      visit = walk.first(args);
    }
    return more;
  }

  // Turns: barrier kTurns + g lets warpgroup g go on when it has arrived itself and its predecessor has.

  ATTN_DEVICE static void await_turn(int group) {
    if constexpr (!kTakeTurns) return;
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
  ATTN_DEVICE static void pass_turn(int group) {
    if constexpr (!kTakeTurns) return;
    constexpr int kBoth = 2 * kWarpgroupThreads;
    if (group == kConsumers - 1) {
      named_arrive<kTurns, kBoth>();
    } else if (kConsumers == 2 || group == 0) {
      named_arrive<kTurns + 1, kBoth>();
    } else {
      named_arrive<kTurns + 2, kBoth>();
    }
  }
  ATTN_DEVICE static void sync_group(int group) {
    if (group == 0) {
      named_sync<kOwn, kWarpgroupThreads>();
    } else if (group == 1) {
      named_sync<kOwn + 1, kWarpgroupThreads>();
    } else {
      named_sync<kOwn + 2, kWarpgroupThreads>();
    }
  }

  // The rung without a warpgroup that loads: the block's first thread loads a tile ahead.

  ATTN_DEVICE void load_and_compute(const Shared& shared, Rows& rows) const {
    const bool loads = threadIdx.x == 0;
    RowRing q;
    TileRing k, v, loaded_k, loaded_v;
    Walk walk = Walk::of(args, row_of_tiles(blockIdx.x));
    const uint32_t queries = queries_of(shared, rows, 0);
    int visit = walk.first(args);
    if (loads) {
      load_queries(shared, walk.place, q);
      if (walk.more(visit)) {
        load_keys(shared, walk.place, walk.tile(visit), loaded_k);
        load_values(shared, walk.place, walk.tile(visit), loaded_v);
      }
    }
    __syncwarp();
    barrier_wait(shared.q_full(0), 0);
    rows.start();
    while (walk.more(visit)) {
      walk.fetch(args, visit);
      const int next = walk.next(args, visit);
      if (loads && walk.more(next)) {
        load_keys(shared, walk.place, walk.tile(next), loaded_k);
        load_values(shared, walk.place, walk.tile(next), loaded_v);
      }
      __syncwarp();
      compute_tile(shared, rows, walk, visit, queries, k, v);
      visit = next;
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
