// Fused float32 attention on tensor cores (mma.sync m16n8k8 tf32, sm_80 and later): forward with LSE, every
// mask, position and softcap, head widths up to 256.
//
// A float32 number is the sum of two tf32 numbers, big and small, and a rest of at most 2^-23 of it. A
// product is big big + big small + small big, three tensor-core products with float32 sums; small small, at
// most 2^-22 of it, is left out. So S = Q K^T and O += P V are as exact as float32 arithmetic, at a third of
// the tf32 rate. Everything else is flash/cuda/mma's thread block (flash_mma.cuh), with tiles of float32:
// fewer keys, at most 96 KiB. Numbers are split when a warp loads them, so K and V once a warp. RoPE
// multiplies rotated copies.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n), O(n k) for a Shaw clip k. Ootomo and Yokota,
// "Recovering single precision accuracy from Tensor Cores", 2022; CUTLASS names it 3xTF32.
// Measured effect: 9.85 ms on an H200 for d = 128, n = 4096, b n = 16k, h d = 2048: 1.23 times as fast as
// PyTorch's efficient backend (12.1 ms), 1.95 times as fast as flash/cuda/simt.

#include "harness/variant.h"
#include "variants/flash/flash_mma_forward.cuh"

namespace attn {
namespace {

class FlashCudaTf32x3 final : public Variant {
 public:
  FlashCudaTf32x3()
      : Variant({.name = "flash/cuda/tf32x3",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores"},
                 .citation = "Ootomo and Yokota 2022"}) {}

  Support supports(const Problem& p) const override {
    if (p.pass != Pass::fwd) return {"forward only"};
    if (p.dtype != Dtype::f32) return {"float32 only"};
    if (p.head_dim > kFlashMmaWidest || p.value_dim > kFlashMmaWidest) return {"d and dv at most 256"};
    if (flash_mma_blocks(p) > INT32_MAX) return {"more than 2^31 - 1 thread blocks"};
    return {};
  }

  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    FlashMmaScratch::take(p, counting);
  }
  Cost cost(const Problem& p) const override { return flash_mma_cost(p); }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    FlashMmaScratch::take(p, workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const CudaQueue queue(context.stream);
    const FlashMmaScratch scratch = FlashMmaScratch::take(p, workspace);
    if (p.position.shaw()) return flash_mma_shaw<float>(queue, p, args, scratch);
    flash_mma_common<float>(queue, p, args, scratch);
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaTf32x3>());

}  // namespace
}  // namespace attn
