// flash/cuda/hopper for RoPE: a kernel before it rotates Q and K in float32 and stores them in 16 bits again,
// as the field does; then the top rung's forward runs on them, with every mask, GQA, softcap.
//
// Rounding what was exact misses the bound of exact operands: this variant declares it (operand_rounding),
// and the check holds it to the bound that follows. flash/cuda/mma keeps rotated rows in float32; its
// products then take 3.5 times as long.
//
// The pass moves 4 d bytes a row of Q and of K, read and written once: 64 MiB each of Q and of K at 16384
// tokens of width 2048 read, as much written. flash/cuda/hopper/rope spares that of Q.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n d): rotated Q and K, a table of angles. Su et al.,
// "RoFormer", 2021. Never measured: no GPU has run it yet.

#include "variants/flash/flash_cuda_backward.h"
#include "variants/flash/flash_hopper_forward.cuh"
#include "variants/flash/flash_hopper_rotated.cuh"
#include "variants/flash/flash_hopper_top.h"

namespace attn {
namespace {

class FlashCudaHopperRotated final : public Variant {
 public:
  FlashCudaHopperRotated()
      : Variant({.name = "flash/cuda/hopper/rotated",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores", "hopper"},
                 .citation = "Su et al. 2021"}) {}

  Support supports(const Problem& p) const override {
    if (!p.position.rope()) return {"RoPE only: without it this is flash/cuda/hopper"};
    return p.pass == Pass::bwd ? FlashCudaRotatedBackward::supports(p) : hopper_supports_shape(p);
  }
  OperandRounding operand_rounding(const Problem& p) const override { return rotated_rounding(p); }
  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    if (p.pass == Pass::bwd) return FlashCudaRotatedBackward::plan(p, counting);
    take(p, counting);
  }
  Cost cost(const Problem& p) const override {
    if (p.pass == Pass::bwd) return FlashCudaRotatedBackward::cost(p);
    return rotated_cost(p, hopper_tiles_in_use<HopperTopRung>(p), RotatedAhead::q_and_k);
  }
  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    if (p.pass == Pass::bwd) return FlashCudaRotatedBackward::prepare(context, p, workspace);
    take(p, workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const Scratch scratch = take(p, workspace);
    const CudaQueue queue(context.stream);
    const Forward rotated = p.dtype == Dtype::bf16 ? rotate_ahead<Bf16>(queue, p, args, scratch.rotated)
                                                   : rotate_ahead<F16>(queue, p, args, scratch.rotated);
    hopper_forward_top(context, p, rotated, scratch.hopper);
  }
  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    FlashCudaRotatedBackward::run(context, p, args, workspace);
  }

 private:
  using Scratch = RotatedScratch<RotatedAhead::q_and_k>;

  static Scratch take(const Problem& p, Workspace& workspace) {
    return Scratch::take(p, workspace, hopper_tiles_in_use<HopperTopRung>(p));
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaHopperRotated>());

}  // namespace
}  // namespace attn
