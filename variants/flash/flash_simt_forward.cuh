#pragma once
// flash/cuda/simt around its thread block: scratch, arguments, choice of the instance, cost. Templated on the
// queue, so that the whole forward also runs in the host model.

#include "variants/flash/flash_scratch.cuh"
#include "variants/flash/flash_simt.cuh"

namespace attn {

inline constexpr int64_t kFlashSimtWidest = 256;

inline int64_t flash_simt_width(const Problem& p) {
  const int64_t widest = std::max(p.head_dim, p.value_dim);
  return widest <= 64 ? 64 : widest <= 128 ? 128 : 256;
}
inline constexpr int64_t kFlashSimtRows = 64;
inline int64_t flash_simt_keys(int64_t width) { return width == 64 ? 64 : 32; }
inline int64_t flash_simt_blocks(const Problem& p) { return flash_blocks(p, kFlashSimtRows); }

template <class Queue>
FlashSimtArgs flash_simt_args(const Queue& queue, const Problem& p, const Forward& forward,
                              const FlashScratch& scratch) {
  FlashSimtArgs args{FlashShape::of(p, scratch.mask.rule(p))};
  args.q = gpu_tensor<const float>(forward.q);
  args.k = gpu_tensor<const float>(forward.k);
  args.v = gpu_tensor<const float>(forward.v);
  args.o = gpu_tensor<float>(forward.o);
  if (!scratch.rope.empty()) {
    scratch.rope.rotate(queue, p, args.q, args.k);
    args.q = scratch.rope.q(p);
    args.k = scratch.rope.k(p);
  }
  args.lse = forward.lse;
  args.head_dim = static_cast<int>(p.head_dim);
  args.value_dim = static_cast<int>(p.value_dim);
  args.q_aligned = args.q.aligned(p.head_dim);
  args.k_aligned = args.k.aligned(p.head_dim);
  args.v_aligned = args.v.aligned(p.value_dim);
  args.o_aligned = args.o.aligned(p.value_dim);
  args.scale = static_cast<float>(p.softmax_scale());
  args.softcap = static_cast<float>(p.softcap);
  args.bias = scratch.bias.fill(queue, p, forward.tables);
  args.clip = p.position.clip;
  if (p.position.shaw()) args.shaw_key = forward.tables.shaw_key;
  if (p.position.shaw_values()) args.shaw_value = forward.tables.shaw_value;
  args.key_table_aligned = GpuTensor<const float>{args.shaw_key}.aligned(p.head_dim);
  args.value_table_aligned = GpuTensor<const float>{args.shaw_value}.aligned(p.value_dim);
  return args;
}

template <int kWidth, class Queue>
void launch_flash_simt(const Queue& queue, const Problem& p, const FlashSimtArgs& args) {
  static_assert(FlashSimt<kWidth, false, false>::kRows == kFlashSimtRows);
  const int64_t count = flash_simt_blocks(p);
  const bool extended = p.softcap != 0 || p.position.shaw() || p.position.toeplitz();
  if (p.mask.none()) {
    if (extended) return queue.blocks(count, FlashSimt<kWidth, false, true>{args});
    return queue.blocks(count, FlashSimt<kWidth, false, false>{args});
  }
  if (extended) return queue.blocks(count, FlashSimt<kWidth, true, true>{args});
  queue.blocks(count, FlashSimt<kWidth, true, false>{args});
}

template <class Queue>
void flash_simt_forward(const Queue& queue, const Problem& p, const Forward& forward,
                        const FlashScratch& scratch) {
  const FlashSimtArgs args = flash_simt_args(queue, p, forward, scratch);
  switch (flash_simt_width(p)) {
    case 64:
      return launch_flash_simt<64>(queue, p, args);
    case 128:
      return launch_flash_simt<128>(queue, p, args);
    default:
      return launch_flash_simt<256>(queue, p, args);
  }
}

/// What the kernel executes: whole tiles, visible or not.
inline Cost flash_simt_cost(const Problem& p) {
  const int64_t keys = flash_simt_keys(flash_simt_width(p));
  const int64_t tiles = count_visited_tiles(p, kFlashSimtRows, keys);
  int64_t band_tiles = 0;
  if (p.position.shaw()) {
    each_visited_tile(p, kFlashSimtRows, keys, [&](int64_t i0, int64_t tile) {
      const int64_t lowest = tile * keys - (i0 + kFlashSimtRows - 1) - p.offset();
      band_tiles += lowest + kFlashSimtRows + keys - 2 > -p.position.clip && lowest < p.position.clip;
    });
  }
  const auto d = static_cast<double>(p.head_dim), dv = static_cast<double>(p.value_dim);
  const double heads = static_cast<double>(p.heads_q),
               pairs = heads * static_cast<double>(tiles * kFlashSimtRows * keys);
  const double rows = heads * static_cast<double>(p.batch * p.seq_q);
  Cost cost;
  cost.flops_executed = 2 * (d + dv) * pairs;
  if (p.position.shaw()) {  // the window of a band tile is 1 + rows / keys tiles of products
    const double window = heads * static_cast<double>(band_tiles * kFlashSimtRows * (kFlashSimtRows + keys));
    cost.flops_executed += 2 * (d + (p.position.shaw_values() ? dv : 0)) * window;
  }
  cost.exps = pairs;
  cost.bytes_moved = 4 * (rows * (d + dv + 1) + heads * static_cast<double>(tiles * keys) * (d + dv));
  cost.time_order = "O(h n^2 d)";
  cost.memory_order = "O(n)";
  return cost;
}

}  // namespace attn
