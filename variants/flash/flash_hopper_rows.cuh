#pragma once
// What a warpgroup of the Hopper kernels does with its 64 queries: S = Q K^T and O += P V by wgmma, and in
// between, in registers, scale, softcap, bias, Shaw's key terms, mask and the online softmax of
// flash_mma.cuh, with the same lazy reference. A thread has rows r and r + 8 of its warp's 16.

#include "variants/flash/flash_hopper_rope.cuh"
#include "variants/flash/flash_hopper_shaw.cuh"

namespace attn {

/// T: Bf16 or F16.
template <class T>
struct FlashHopperArgs : FlashVisitShape {
  TensorMap q_map, k_map, v_map, o_map;
  GpuTensor<const T> q, k, v;  ///< only what is computed once more reads them
  float* lse;                  // [batch, heads_q, seq_q]
  int head_dim, value_dim;
  float scale;
  float softcap;  ///< 0: none
  BiasRows bias;  ///< times log2 e; with HopperBiasEnds
  HopperSchedule schedule;
  unsigned* taken;  ///< rows of tiles that persistent blocks took beyond their first; 0 between calls
  FlashShawArgs shaw;
  HopperRope rope;
  // Of the kind `packed`:
  int pack_shift;      ///< the logarithm of HopperTiles::pack
  int splits;          ///< of the keys of a row of tiles. If several, O and LSE are left to DecodeMerge:
  float* partial_o;    // [batch, splits, heads_kv, group, seq_q, value_dim]
  Float2* partial_rl;  // [batch, splits, heads_kv, group, seq_q]: reference and sum
};

template <class T, int kWidth, HopperKind kKind, HopperTiling kTiling>
struct HopperRows {
  static constexpr bool kMasked = kKind >= HopperKind::masked;
  static constexpr bool kBiased =  ///< capped: where there are biases
      kKind == HopperKind::biased || kKind == HopperKind::capped;
  static constexpr bool kCapped = kKind == HopperKind::capped;
  static constexpr bool kShaw = kKind == HopperKind::shaw;
  static constexpr bool kRope = kKind == HopperKind::rope;
  static constexpr bool kPacked = kKind == HopperKind::packed;
  static constexpr int kRows = kTiling.rows();
  static constexpr int kKeys = kTiling.keys;
  static constexpr int kValueWidth = hopper_value_width(kWidth);
  static constexpr int kKeyTiles = kKeys / 8;
  static constexpr float kSlack = 8;
  static_assert(!kMasked || kKeys / 4 <= 32,
                "the visible keys of a row and thread are the bits of one number");

  using Args = FlashHopperArgs<T>;
  using Walk = HopperWalk<kRows, kKeys, kMasked, kPacked>;
  using Tiles = typename Walk::Tiles;
  using Place = typename Walk::Place;

  const Args& args;
  int group;  ///< warpgroup among those that compute
  int warp;   ///< of the warpgroup
  int lane;

  float s[kKeys / 2];
  uint32_t p[kKeys / 4];
  float o[kValueWidth / 2];
  float reference[2];
  float sum[2];  ///< over the thread's own keys
  std::conditional_t<kShaw, HopperShawTerms, HopperNoTerms> terms;

#if defined(ATTN_HOPPER)
  ATTN_DEVICE HopperRows(const Args& a, int thread)
      : args(a),
        group(uniform(thread / kWarpgroupThreads)),
        warp(uniform(thread / kWarpLanes % 4)),
        lane(thread % kWarpLanes) {}

  /// Of the block: row r (0 or 1) of the thread.
  ATTN_DEVICE int row_of(int r) const { return group * 64 + warp * 16 + mma_c(lane, 2 * r).row; }
  /// Of a row of the block. Row: int, or int64_t, in which the compiler then adds.
  template <class Row>
  ATTN_DEVICE int64_t query_of(const Place& place, Row row) const {
    return int64_t{place.i0} + Tiles::query_of(args, row);
  }
  ATTN_DEVICE int head_of(const Place& place, int row) const { return place.h + Tiles::head_of(args, row); }

  ATTN_DEVICE void start() {
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      reference[r] = -INFINITY;
      sum[r] = 0;
    }
    ATTN_UNROLL
    for (int k = 0; k < kValueWidth / 2; ++k) o[k] = 0;
  }

  // Products run behind the thread's back: their results are there, and their operands free, after a wait.

  /// `queries`: the warpgroup's own.
  ATTN_DEVICE void multiply_keys(uint32_t queries, uint32_t keys) {
    queries =
        static_cast<uint32_t>(recomputed(static_cast<int>(queries)));  // else its steps wait in registers
    wgmma_hold(s);
    wgmma_fence();
    ATTN_UNROLL
    for (int k = 0; k < kWidth / 16; ++k) {
      wgmma_shared<T, kKeys, 0, 0>(s, WgmmaOperand::along(queries, 64, k),
                                   WgmmaOperand::along(keys, kKeys, k), k > 0);
    }
    wgmma_commit();
  }
  ATTN_DEVICE void multiply_values(uint32_t values) {
    wgmma_hold(p);
    wgmma_hold(o);
    wgmma_fence();
    ATTN_UNROLL
    for (int k = 0; k < kKeys / 16; ++k) {
      wgmma_registers<T, kValueWidth, 1>(o, p + 4 * k, WgmmaOperand::across(values, kKeys, k), true);
    }
    wgmma_commit();
  }
  template <int kYoungest>
  ATTN_DEVICE void wait_scores() {
    wgmma_wait<kYoungest>();
    wgmma_hold(s);
  }
  template <int kYoungest>
  ATTN_DEVICE void wait_values() {
    wgmma_wait<kYoungest>();
    wgmma_hold(o);
    wgmma_hold(p);
  }
  /// The exponentials come before what follows. Else the assembler moves the wait for P V in front of them,
  /// and nothing runs beside it; it keeps the order of a wait and a store, though, and this one needs the
  /// sums.
  ATTN_DEVICE void weights_are_done(uint32_t word) const {
    if (lane == 0) shared_store(word, __float_as_int(sum[0] + sum[1]));
  }

  /// S becomes P. Returns whether O has to follow by rescale(). `biases`: of the tile, in shared memory.
  ATTN_DEVICE bool weigh(const Walk& walk, int visit, uint32_t biases, float (&correction)[2]) {
    finish_scores(biases);
    const int tile = Walk::tile(visit), j0 = tile * kKeys;
    if constexpr (kShaw) {
      const int64_t first = int64_t{walk.place.i0} + group * 64 + warp * 16;
      terms.template add<kKeys>(args, walk.place, lane, first, j0, factor(), s);
    }
    if (walk.band_cuts(tile)) hide_band(walk.place, j0);
    if constexpr (kMasked) {
      if (Walk::blocks_cut(visit)) hide_blocks(walk.place, j0);
    }
    return exponentials(correction);
  }
  /// P as the A operand of P V; also O in order for stmatrix.
  ATTN_DEVICE void pack_weights() {
    ATTN_UNROLL
    for (int k = 0; k < kKeys / 4; ++k) p[k] = pack<T>(s[2 * k], s[2 * k + 1]);
  }
  ATTN_DEVICE void rescale(const float (&correction)[2]) {
    ATTN_UNROLL
    for (int k = 0; k < kValueWidth / 2; ++k) o[k] *= correction[k / 2 % 2];
  }

  /// O and LSE from the sums. inverse: 1 / sum, 0 of an empty row.
  ATTN_DEVICE void normalise(const Place& place, float (&inverse)[2]) {
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      sum[r] = combine_lanes<Sum, 4>(sum[r]);
      const bool empty = sum[r] == 0;
      inverse[r] = empty ? 0.0f : 1 / sum[r];
      const int64_t i = query_of(place, row_of(r));
      if (lane % 4 == 0 && i < args.seq_q) {
        args.lse[(place.b * args.heads_q + head_of(place, row_of(r))) * args.seq_q + i] =
            empty ? -INFINITY : (reference[r] + log2f(sum[r])) * kLn2;
      }
    }
    rescale(inverse);
  }
  /// What a split leaves: O not divided, reference and sum, for DecodeMerge.
  ATTN_DEVICE void store_split(const Place& place) {
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      sum[r] = combine_lanes<Sum, 4>(sum[r]);
      if (query_of(place, row_of(r)) >= args.seq_q) continue;
      const int64_t row = split_row(place, row_of(r));
      float* to = args.partial_o + row * args.value_dim + mma_c(lane, 0).column;
      ATTN_UNROLL
      for (int n = 0; n < kValueWidth / 8; ++n) {
        if (8 * n < args.value_dim)
          *reinterpret_cast<Float2*>(to + 8 * n) = {o[4 * n + 2 * r], o[4 * n + 2 * r + 1]};
      }
      if (lane % 4 == 0) args.partial_rl[row] = {reference[r], sum[r]};
    }
    const float undivided[2] = {1, 1};
    repair(place, undivided, 0);
  }
  /// The warp's rows of O to shared memory: the warpgroup's 64 rows in chunks of 64 channels.
  ATTN_DEVICE void stage_output(uint32_t rows) const {
    const Chunk at = chunk_of_a(recomputed(lane));  // else all addresses wait in registers
    ATTN_UNROLL
    for (int k = 0; k < kValueWidth / 16; ++k) {
      const float* pair = o + 8 * k;
      stmatrix_x4(output_place(rows, at.row, 16 * k + 8 * at.chunk), pack<T>(pair[0], pair[1]),
                  pack<T>(pair[2], pair[3]), pack<T>(pair[4], pair[5]), pack<T>(pair[6], pair[7]));
    }
  }
  /// By one lane.
  ATTN_DEVICE void send_output(uint32_t rows, const Place& place) const {
    ATTN_UNROLL
    for (int c = 0; c < kValueWidth / 64; ++c) {
      if (64 * c < args.value_dim) {
        tma_store(&args.o_map, output_place(rows, 0, 64 * c), 64 * c, place.h,
                  static_cast<int>(query_of(place, group * 64 + warp * 16)), place.b);
      }
    }
    bulk_commit();
  }

  /// Rows that hold NaN once more, without the tensor cores: they may not have seen the key that it comes
  /// from (0 NaN is NaN). Of a key that a row sees, NaN and infinity are added as they are.
  ATTN_DEVICE void repair(const Place& place, const float (&inverse)[2], uint32_t rows) const {
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      float probe = 0;
      ATTN_UNROLL
      for (int k = 0; k < kValueWidth / 4; ++k) probe += o[k / 2 * 4 + 2 * r + k % 2];
      const unsigned lanes = __ballot_sync(0xffffffffu, probe != probe);
      if (lanes == 0) continue;
      __syncwarp();  // what all lanes have staged or stored is written over
      ATTN_ROLL
      for (int row = 0; row < 8; ++row) {
        const float referred = __shfl_sync(0xffffffffu, reference[r], 4 * row);
        const float divided = __shfl_sync(0xffffffffu, inverse[r], 4 * row);
        if (lanes >> (4 * row) & 0xfu) repair_row(place, 8 * r + row, referred, divided, rows);
      }
    }
  }

 private:
  /// Natural scores times this are exponents of 2.
  ATTN_DEVICE float factor() const { return kBiased ? 1.0f : args.scale * kLog2e; }
  /// Of what a split leaves, for a row of the block.
  ATTN_DEVICE int64_t split_row(const Place& place, int row) const {
    const int64_t heads_kv = args.heads_q / args.group, h = head_of(place, row) - place.head_kv * args.group;
    return (((int64_t{place.b} * args.splits + place.split) * heads_kv + place.head_kv) * args.group + h) *
               args.seq_q +
           query_of(place, row);
  }
  /// Row of the warp's 16.
  ATTN_DEVICE uint32_t output_place(uint32_t rows, int row, int channel) const {
    return rows + static_cast<uint32_t>(channel / 64 * 64 * 128) +
           swizzled_128(warp * 16 + row, channel % 64);
  }

  /// Scale and softcap; then scores are exponents of 2.
  template <int count>
  ATTN_DEVICE void cap(float (&scores)[count]) const {
    const float inner = args.softcap == 0 ? 0.0f : args.scale / args.softcap;
    const float outer = (args.softcap == 0 ? args.scale : args.softcap) * kLog2e;
    if (args.softcap == 0) {
      ATTN_UNROLL
      for (int k = 0; k < count; ++k) scores[k] *= outer;
    } else {
      ATTN_UNROLL
      for (int k = 0; k < count; ++k) scores[k] = outer * tanh_approximate(scores[k] * inner);
    }
  }
  /// A bias belongs to a distance: row r + 8 has at key j + 8 what row r has at key j, so each is read once.
  ATTN_DEVICE void add_biases(uint32_t biases) {
    const float factor = kCapped ? 1.0f : args.scale * kLog2e;
    const uint32_t first = biases + 4 * static_cast<uint32_t>(row_of(0) - mma_c(lane, 0).column + kKeys - 1);
    float below[2] = {shared_load_float(first + 32), shared_load_float(first + 28)};  // of row r + 8
    ATTN_UNROLL
    for (int n = 0; n < kKeyTiles; ++n) {
      ATTN_UNROLL
      for (int e = 0; e < 2; ++e) {
        const float bias = shared_load_float(first - static_cast<uint32_t>(32 * n + 4 * e));
        s[4 * n + e] = fmaf(s[4 * n + e], factor, bias);
        s[4 * n + 2 + e] = fmaf(s[4 * n + 2 + e], factor, below[e]);
        below[e] = bias;
      }
    }
  }

  ATTN_DEVICE void finish_scores(uint32_t biases) {
    if constexpr (kCapped) cap(s);
    if constexpr (kBiased) {
      if (!kCapped || args.bias.rows) add_biases(biases);
    }
  }

  /// -inf for what band and padding do not allow.
  ATTN_DEVICE void hide_band(const Place& place, int j0) {
    const int length = near_distance(int64_t{place.keys} - j0);
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      const int64_t i = query_of(place, row_of(r));
      int begin = 0, end = length;
      if constexpr (kMasked) {
        begin = near_distance(i - j0 + args.rule.band_low);
        end = min(end, near_distance(i - j0 + args.rule.band_high + 1));
        if (args.rule.documents) keep_document(args.rule, static_cast<uint32_t>(i), j0, begin, end);
      }
      const int own = mma_c(lane, 0).column;
      ATTN_UNROLL
      for (int k = 0; k < kKeyTiles * 2; ++k) {
        const int key = 8 * (k / 2) + k % 2;
        const bool visible = key >= begin - own && key < end - own;
        if (!visible) s[k / 2 * 4 + 2 * r + k % 2] = -INFINITY;
      }
    }
  }
  /// The same for the block mask. Rows of one block have the same bits.
  ATTN_DEVICE void hide_blocks(const Place& place, int j0) {
    const int64_t i = int64_t{place.i0} + row_of(0);
    const auto line = [this](int64_t query) {
      return MaskLine::of_query(args.rule, args.seq_q, args.seq_kv, query);
    };
    const MaskLine upper = line(i), lower = line(i + 8);
    const auto first = static_cast<uint32_t>(j0);
    uint32_t bits[2];
    bits[0] = bits[1] = visible_bits<kKeys>(upper, first, lane);
    if (lower.blocks != upper.blocks) bits[1] = visible_bits<kKeys>(lower, first, lane);
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      ATTN_UNROLL
      for (int k = 0; k < kKeyTiles * 2; ++k) {
        if (!(bits[r] >> k & 1u)) s[k / 2 * 4 + 2 * r + k % 2] = -INFINITY;
      }
    }
  }

  ATTN_DEVICE bool exponentials(float (&correction)[2]) {
    const float factor = this->factor();
    bool moved = false;
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      float highest[2] = {-INFINITY, -INFINITY};  // two chains of instructions instead of one
      ATTN_UNROLL
      for (int k = 0; k < kKeyTiles * 2; ++k) {
        highest[k % 2] = fmaxf(highest[k % 2], s[k / 2 * 4 + 2 * r + k % 2]);
      }
      float most = combine_lanes<Maximum, 4>(fmaxf(highest[0], highest[1])) * factor;
      if constexpr (kShaw) most = terms.lifted(r, most);
      const float before = reference[r];
      const bool moves = most > before + kSlack;
      correction[r] = moves ? exp2_approximate(before - most) : 1.0f;
      if (moves) reference[r] = most;
      moved = moved || moves;
    }
    ATTN_UNROLL
    for (int r = 0; r < 2; ++r) {
      float subtracted = reference[r] == -INFINITY ? 0.0f : reference[r];
      if constexpr (kShaw) subtracted -= terms.lift[r];
      float added[2] = {sum[r] * correction[r], 0};
      ATTN_UNROLL
      for (int k = 0; k < kKeyTiles * 2; ++k) {
        float& score = s[k / 2 * 4 + 2 * r + k % 2];
        score = exp2_approximate(fmaf(score, factor, -subtracted));
        added[k % 2] += score;
      }
      sum[r] = added[0] + added[1];
    }
    return __any_sync(0xffffffffu, moved);
  }

  // Channels of a lane: lane + 32 k.
  static constexpr int kOwn = kWidth / kWarpLanes, kOwnValues = kValueWidth / kWarpLanes;

  /// Of one row of the warp's 16; all lanes together.
  ATTN_DEVICE void repair_row(const Place& place, int row, float referred, float divided,
                              uint32_t rows) const {
    const int64_t i = query_of(place, int64_t{group * 64} + warp * 16 + row);
    const int h = head_of(place, row);  // 16 rows are whole queries
    const int first = recomputed(lane);
    if (i >= args.seq_q) return;
    float query[kOwn], sums[kOwnValues];
    const T* q = args.q.row(place.b, i, h);
    ATTN_UNROLL
    for (int k = 0; k < kOwnValues; ++k) sums[k] = 0;
    ATTN_UNROLL
    for (int k = 0; k < kOwn; ++k) {
      query[k] = 0;
      if (first + 32 * k >= args.head_dim) continue;
      query[k] = kRope ? args.rope.rotated(q, i, first + 32 * k) : to_float(q[first + 32 * k]);
    }
    const float subtracted = referred == -INFINITY ? 0.0f : referred;
    const float* bias = args.bias.rows ? args.bias.head(place.h) + i : nullptr;
    const MaskRule rule = Tiles::rule_of(args, place);
    KeyRange range = rule.row_range(0, i);
    if constexpr (kPacked) {  // of the split
      range.begin = max(range.begin, int64_t{place.first} * kKeys);
      range.end = min(range.end, int64_t{place.last} * kKeys);
    }
    ATTN_ROLL
    for (int64_t j = range.begin; j < range.end; ++j) {
      if (!rule.allows(0, i, j)) continue;
      const T *key = args.k.row(place.b, j, place.head_kv), *value = args.v.row(place.b, j, place.head_kv);
      float score = 0;
      ATTN_UNROLL
      for (int k = 0; k < kOwn; ++k) {
        if (first + 32 * k < args.head_dim) score = fmaf(query[k], to_float(key[first + 32 * k]), score);
      }
      score = combine_lanes<Sum, 32>(score);
      if constexpr (kShaw) score += HopperShawTerms::row_of(args, place, i, j).term(args.shaw, 0);
      if constexpr (kBiased) {
        float one[1] = {kCapped ? score : score * args.scale * kLog2e};
        if constexpr (kCapped) cap(one);
        score = one[0] + (bias ? bias[-j] : 0.0f);
      }
      const float weight = exp2_approximate(fmaf(score, factor(), -subtracted));
      const float rounded = to_float(half_of<T>(pack<T>(weight, weight), 0));
      ATTN_UNROLL
      for (int k = 0; k < kOwnValues; ++k) {
        if (first + 32 * k >= args.value_dim) continue;
        const float number = to_float(value[first + 32 * k]);
        sums[k] += number - number == 0 ? rounded * number : number;
      }
    }
    if constexpr (kPacked) {
      if (args.splits > 1) {
        float* to = args.partial_o + split_row(place, group * 64 + warp * 16 + row) * args.value_dim;
        ATTN_UNROLL
        for (int k = 0; k < kOwnValues; ++k) {
          if (first + 32 * k < args.value_dim) to[first + 32 * k] = sums[k];
        }
        return;
      }
    }
    ATTN_UNROLL
    for (int k = 0; k < kOwnValues; ++k) {
      const uint32_t pair = pack<T>(sums[k] * divided, 0);
      shared_store_16(output_place(rows, row, first + 32 * k), static_cast<uint16_t>(pair & 0xffffu));
    }
  }
#endif
};

}  // namespace attn
