#pragma once
// flash/cuda/decode around its thread blocks: what it supports, scratch, arguments, choice of the instance,
// cost. Templated on the queue, so that the whole forward also runs in the host model.

#include "variants/common/mask_cuda.cuh"
#include "variants/flash/flash_decode.cuh"

namespace attn {

inline constexpr int64_t kFlashDecodeWidest = 256;

inline int flash_decode_width(const Problem& p) {
  const int64_t widest = std::max(p.head_dim, p.value_dim);
  return widest <= 64 ? 64 : widest <= 128 ? 128 : 256;
}

inline Support flash_decode_supports(const Problem& p) {
  if (p.pass != Pass::fwd) return {"forward only"};
  if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
  if (p.seq_q * p.group() > kDecodeRows) {
    return {"nq times the query heads of a key/value head must be at most " + std::to_string(kDecodeRows)};
  }
  if (p.mask.has_documents()) return {"no documents"};
  if (p.head_dim > kFlashDecodeWidest || p.value_dim > kFlashDecodeWidest) return {"d and dv at most 256"};
  if (p.position.shaw()) return {"no Shaw terms: their tables are float32"};
  if (p.position.rope()) return {"no RoPE: every step would have to rotate the whole cache"};
  if (static_cast<double>(p.batch) * static_cast<double>(p.heads_q * p.seq_q) > INT32_MAX / 2)
    return {"more than 2^30 query rows"};
  return {};
}

/// Thread blocks that run at a time.
template <int kWidth>
int64_t flash_decode_resident_of(const GpuShape& gpu) {
  using Body = FlashDecode<Bf16, kWidth>;
  return gpu.resident_blocks(Body::shared_bytes(), Body::kMinBlocks);
}
inline int64_t flash_decode_resident(const Problem& p, const GpuShape& gpu) {
  switch (flash_decode_width(p)) {
    case 64:
      return flash_decode_resident_of<64>(gpu);
    case 128:
      return flash_decode_resident_of<128>(gpu);
    default:
      return flash_decode_resident_of<256>(gpu);
  }
}
inline DecodeSplits flash_decode_splits(const Problem& p, const GpuShape& gpu) {
  return DecodeSplits::of(p, flash_decode_keys(flash_decode_width(p)), flash_decode_resident(p, gpu));
}
/// Floats of a partial row of O: four at a time are written.
inline int64_t flash_decode_stride(const Problem& p) { return (p.value_dim + 3) / 4 * 4; }

struct FlashDecodeScratch {
  DecodeSplits splits;
  DeviceMask mask;
  DeviceDistances distances;
  DecodeSplit* list = nullptr;
  int32_t* starts = nullptr;  ///< these three: where the keys are split
  float* partial_o = nullptr;
  float* partial_rl = nullptr;

  static FlashDecodeScratch take(const Problem& p, const GpuShape& gpu, Workspace& workspace) {
    FlashDecodeScratch scratch;
    scratch.splits = flash_decode_splits(p, gpu);
    scratch.mask = DeviceMask::take(p, workspace);
    scratch.distances = DeviceDistances::take(p, workspace);
    const int64_t count = scratch.splits.count();
    scratch.list = workspace.take<DecodeSplit>("splits", count);
    if (!scratch.splits.several()) return scratch;
    const int64_t rows = count * p.heads_q * p.seq_q;
    scratch.starts = workspace.take<int32_t>("first splits", p.batch + 1);
    scratch.partial_o = workspace.take<float>("partial o", rows * flash_decode_stride(p));
    scratch.partial_rl = workspace.take<float>("partial references and sums", 2 * rows);
    return scratch;
  }
  template <class Queue>
  void prepare(const Queue& queue, const Problem& p) const {
    mask.prepare(queue, p);
    distances.prepare(queue, p);
    const std::vector<DecodeSplit> all = splits.list(p);
    queue.upload(list, all.data(), all.size() * sizeof(DecodeSplit));
    if (!starts) return;
    std::vector<int32_t> first(static_cast<size_t>(p.batch) + 1);
    for (const DecodeSplit& split : all) ++first[static_cast<size_t>(split.b) + 1];
    for (size_t b = 1; b < first.size(); ++b) first[b] += first[b - 1];
    queue.upload(starts, first.data(), first.size() * sizeof(int32_t));
  }
};

template <class T>
FlashDecodeArgs<T> flash_decode_args(const Problem& p, const Forward& forward,
                                     const FlashDecodeScratch& scratch) {
  FlashDecodeArgs<T> args{};
  args.q = gpu_tensor<const T>(forward.q);
  args.k = gpu_tensor<const T>(forward.k);
  args.v = gpu_tensor<const T>(forward.v);
  args.o = gpu_tensor<T>(forward.o);
  args.lse = forward.lse;
  args.q_aligned = args.q.aligned(p.head_dim);
  args.k_aligned = args.k.aligned(p.head_dim);
  args.v_aligned = args.v.aligned(p.value_dim);
  args.o_aligned = args.o.aligned(p.value_dim);
  args.heads_kv = static_cast<int>(p.heads_kv);
  args.group = static_cast<int>(p.group());
  args.seq_q = static_cast<int>(p.seq_q);
  args.seq_kv = p.seq_kv;
  args.head_dim = static_cast<int>(p.head_dim);
  args.value_dim = static_cast<int>(p.value_dim);
  args.rule = scratch.mask.rule(p);
  args.masked = !p.mask.none();
  args.splits = scratch.list;
  args.partial_o = scratch.partial_o;
  args.partial_rl = scratch.partial_rl;
  args.partial_stride = static_cast<int>(flash_decode_stride(p));
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.distances.bias(p, forward.tables);
  return args;
}

template <class T, class Queue>
void flash_decode_forward(const Queue& queue, const Problem& p, const Forward& forward,
                          const FlashDecodeScratch& scratch) {
  const FlashDecodeArgs<T> args = flash_decode_args<T>(p, forward, scratch);
  const int64_t blocks = scratch.splits.count() * p.heads_kv;
  switch (flash_decode_width(p)) {
    case 64:
      queue.blocks(blocks, FlashDecode<T, 64>{{args}});
      break;
    case 128:
      queue.blocks(blocks, FlashDecode<T, 128>{{args}});
      break;
    default:
      queue.blocks(blocks, FlashDecode<T, 256>{{args}});
  }
  if (!args.partial_o) return;
  queue.blocks(p.batch * p.heads_q * p.seq_q, DecodeMerge<T>{args, scratch.starts});
}

/// Whole tiles of 16 rows over padded channels; of memory, every key and value of the visited tiles once, and
/// the partial results.
inline Cost flash_decode_cost(const Problem& p, const GpuShape& gpu) {
  const int width = flash_decode_width(p);
  const int64_t keys = flash_decode_keys(width);
  const DecodeSplits splits = flash_decode_splits(p, gpu);
  const auto heads = static_cast<double>(p.heads_kv), rows = static_cast<double>(p.group() * p.seq_q),
             tiles = static_cast<double>(splits.tiles()), d = static_cast<double>(p.head_dim),
             dv = static_cast<double>(p.value_dim);
  const double pairs = tiles * heads * kDecodeRows * static_cast<double>(keys);
  const double queries = static_cast<double>(p.batch) * heads * rows;
  const double partial_rows = splits.several() ? static_cast<double>(splits.count()) * heads * rows : 0;
  Cost cost;
  cost.flops_executed = 2 * 2 * width * pairs;
  cost.exps = pairs;
  cost.bytes_moved = 2 * (d + dv) * (queries + heads * count_decode_keys(p, keys)) + 4 * queries +
                     2 * 4 * partial_rows * (static_cast<double>(flash_decode_stride(p)) + 2);
  cost.time_order = "O(h n d)";
  cost.memory_order = p.position.t5() ? "O(n)" : "O(1)";  // partial results: as the GPU allows
  return cost;
}

}  // namespace attn
