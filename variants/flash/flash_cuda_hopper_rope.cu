// flash/cuda/hopper for RoPE with Q rotated inside the kernel: TMA brings the queries of a row of tiles while
// the row before is computed, and the three warps of the loading warpgroup that have nothing to do rotate
// them in shared memory, in float32, before the computing warpgroups are told (flash_hopper_rope.cuh). K is
// rotated by a kernel before, once: inside, every block of queries would rotate all of its keys again.
//
// Against flash/cuda/hopper/rotated, which rotates both before: the same numbers, without writing and reading
// Q once more, 4 d bytes a row (of 3.35 TB/s: 40 us at 16384 tokens of width 2048, where the forward takes
// 200 us at n = 1024), and without a workspace for it. With grouped heads K is the smaller part by far.
// What it costs: no smaller tiles for short sequences, the kernel with mask arithmetic also without a mask.
//
// bf16 and f16, every mask, GQA; no softcap, no negative scale, strides that TMA accepts. Time O(h n^2 d)
// (visited tiles only), workspace O(n d): rotated K, a table of angles. Su et al., "RoFormer", 2021. Never
// measured: no GPU has run it yet.

#include <stdexcept>

#include "variants/flash/flash_hopper_forward.cuh"
#include "variants/flash/flash_hopper_rotated.cuh"

namespace attn {
namespace {

class FlashCudaHopperRope final : public Variant {
 public:
  FlashCudaHopperRope()
      : Variant({.name = "flash/cuda/hopper/rope",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores", "hopper"},
                 .citation = "Su et al. 2021"}) {}

  Support supports(const Problem& p) const override {
    if (!p.position.rope()) return {"RoPE only: without it this is flash/cuda/hopper"};
    if (p.softcap != 0 || p.softmax_scale() < 0)
      return {"no softcap, no negative scale: flash/cuda/hopper/rotated"};
    return hopper_supports_shape(p);
  }
  OperandRounding operand_rounding(const Problem& p) const override { return rotated_rounding(p); }
  void plan(const Context&, const Problem& p, Workspace& counting) const override { take(p, counting); }
  Cost cost(const Problem& p) const override {
    return rotated_cost(p, hopper_tiles_of(p, HopperKind::rope), RotatedAhead::k);
  }
  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    take(p, workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const Scratch scratch = take(p, workspace);
    const CudaQueue queue(context.stream);
    if (p.dtype == Dtype::bf16) return enqueue<Bf16>(queue, p, args, scratch);
    enqueue<F16>(queue, p, args, scratch);
  }

 private:
  using Scratch = RotatedScratch<RotatedAhead::k>;

  static Scratch take(const Problem& p, Workspace& workspace) {
    return Scratch::take(p, workspace, hopper_tiles_of(p, HopperKind::rope));
  }

  template <class T>
  static void enqueue(const CudaQueue& queue, const Problem& p, const Forward& forward,
                      const Scratch& scratch) {
    const Forward rotated = rotate_ahead<T>(queue, p, forward, scratch.rotated);
    if (!hopper_strides(p, rotated))
      throw std::invalid_argument("strides that TMA does not accept: flash/cuda/hopper/rotated takes them");
    const HopperTiles& tiles = scratch.hopper.tiles;
    FlashHopperArgs<T> args = hopper_device_args<T>(queue, p, rotated, scratch.hopper, tiles);
    args.rope = hopper_rope(p, scratch.rotated.angles, p.offset());
    launch_hopper<T, HopperKind::rope, HopperTopRung>(queue, args, tiles);
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaHopperRope>());

}  // namespace
}  // namespace attn
