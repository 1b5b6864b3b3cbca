// Fused attention on Hopper (wgmma and TMA, sm_90a), the whole ladder: bf16 and f16 forward with LSE, every
// mask, ALiBi, T5, Shaw keys and softcap, head widths up to 256.
//
// Beyond the rung below (flash/cuda/hopper/pingpong): as many blocks as multiprocessors, each of which takes
// the next row of tiles when it has loaded its last, from a counter in memory. The first tiles of that row
// are loaded during the end of the one before, and O leaves by TMA meanwhile. Under a band the longest rows
// come first, within sections of heads whose keys and values fit the second-level cache together.
//
// The kernel: flash_hopper.cuh; its sizes and order of work: flash_hopper_shape.cuh; a warpgroup's part:
// flash_hopper_rows.cuh; Shaw's key terms: flash_hopper_shaw.cuh. Tensors that TMA cannot read (strides no
// multiple of 16 bytes) go to flash/cuda/mma.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n): the mask's arrays, one row of biases per head for
// ALiBi and T5; O(n k) for a Shaw clip k; under a block mask 4 bytes for every tile (flash_visits.cuh). Shah
// et al., "FlashAttention-3", 2024; the counter and the sections as in its later code. Measured effect, in
// one run with cuDNN on an H200 (bf16, n = 4096, b n = 16k, h d = 2048, cold operands), as first measured, in
// TFLOP/s full and causal:
//   d = 64    514 and 394, cuDNN 458 and 425
//   d = 128   662 and 564, cuDNN 612 and 521
//   d = 256   700 and 596, cuDNN 609 and 515
// Then, by probes: the first scores of a row beside the end of the row before, 579 to 623 full and 395 to 440
// causal at d = 128, n = 1024; three warpgroups under a mask, 350 to 441 causal at d = 64, n = 4096; biases
// by TMA, 134 to 580 at d = 128, n = 8192. The card is limited by power: warm, the switches of HopperRung
// differ by 3 % at most.

#include "variants/flash/flash_cuda_backward.h"
#include "variants/flash/flash_hopper_forward.cuh"
#include "variants/flash/flash_hopper_top.h"

namespace attn {
namespace {

class FlashCudaHopper final : public Variant {
 public:
  FlashCudaHopper()
      : Variant({.name = "flash/cuda/hopper",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores", "hopper"},
                 .citation = "Shah et al. 2024"}) {}

  Support supports(const Problem& p) const override {
    return p.pass == Pass::bwd ? FlashCudaHopperBackward::supports(p) : hopper_supports(p);
  }
  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    if (p.pass == Pass::bwd) return FlashCudaHopperBackward::plan(p, counting);
    take(p, counting);
  }
  Cost cost(const Problem& p) const override {
    return p.pass == Pass::bwd ? FlashCudaHopperBackward::cost(p)
                               : hopper_cost(p, hopper_tiles_in_use<HopperTopRung>(p));
  }
  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    if (p.pass == Pass::bwd) return FlashCudaHopperBackward::prepare(context, p, workspace);
    take(p, workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    hopper_forward_top(context, p, args, take(p, workspace));
  }
  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    FlashCudaHopperBackward::run(context, p, args, workspace);
  }

 private:
  static HopperScratch take(const Problem& p, Workspace& workspace) {
    return HopperScratch::take(p, workspace, hopper_tiles_in_use<HopperTopRung>(p));
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaHopper>());

}  // namespace

void hopper_forward_top(const Context& context, const Problem& p, const Forward& forward,
                        const HopperScratch& scratch) {
  if (p.position.shaw()) return hopper_forward_shaw(context, p, forward, scratch);
  if (p.dtype == Dtype::f16) return hopper_forward_f16(context, p, forward, scratch);
  hopper_forward<Bf16, HopperTopRung>(context, p, forward, scratch);
}

}  // namespace attn
