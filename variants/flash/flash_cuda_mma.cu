// Fused attention on tensor cores (mma.sync, sm_80 and later): bf16 and f16 forward with LSE, every mask,
// position and softcap, head widths up to 256. The backward has a file of its own.
//
// FlashAttention-2's forward: a thread block holds a block of queries in shared memory and streams over the
// key tiles that its mask does not call empty; scores, weights and output stay in registers. The thread block
// stands in flash_mma.cuh, where tests run it on the host.
//
// RoPE: a kernel before it rotates Q and K into float32 copies, and Q K^T is three tf32 products: rotated
// rows rounded to 16 bits would miss the error bound. Shaw: flash_mma_shaw.cuh.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n): the mask's arrays, one row of biases per head for
// ALiBi and T5, float32 copies of Q and K for RoPE; O(n k) for a Shaw clip k. Dao, "FlashAttention-2", 2023,
// algorithm 1.
// Measured effect on an H200, d = 128, n = 4096, b n = 16k, h d = 2048: 366 TFLOP/s, 1.03 times
// FlashAttention-2; causal 301; more in flash_mma.cuh.

#include "harness/variant.h"
#include "variants/flash/flash_cuda_backward.h"
#include "variants/flash/flash_mma_common.h"
#include "variants/flash/flash_mma_forward.cuh"
#include "variants/flash/flash_mma_positions.h"

namespace attn {
namespace {

class FlashCudaMma final : public Variant {
 public:
  FlashCudaMma()
      : Variant({.name = "flash/cuda/mma",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores"},
                 .citation = "Dao 2023"}) {}

  Support supports(const Problem& p) const override {
    if (p.pass == Pass::bwd) return FlashCudaMmaBackward::supports(p);
    if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
    if (p.head_dim > kFlashMmaWidest || p.value_dim > kFlashMmaWidest) return {"d and dv at most 256"};
    if (flash_mma_blocks(p) > INT32_MAX) return {"more than 2^31 - 1 thread blocks"};
    return {};
  }

  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    if (p.pass == Pass::bwd) return FlashCudaMmaBackward::plan(p, counting);
    FlashMmaScratch::take(p, counting);
  }
  Cost cost(const Problem& p) const override {
    return p.pass == Pass::bwd ? FlashCudaMmaBackward::cost(p) : flash_mma_cost(p);
  }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    if (p.pass == Pass::bwd) return FlashCudaMmaBackward::prepare(context, p, workspace);
    FlashMmaScratch::take(p, workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const FlashMmaScratch scratch = FlashMmaScratch::take(p, workspace);
    if (p.position.rope() || p.position.shaw()) {
      return enqueue_flash_mma_positions(context.stream, p, args, scratch);
    }
    enqueue_flash_mma_common(context.stream, p, args, scratch);
  }
  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    FlashCudaMmaBackward::run(context, p, args, workspace);
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaMma>());

}  // namespace

void enqueue_flash_mma_common(void* stream, const Problem& p, const Forward& args,
                              const FlashMmaScratch& scratch) {
  const CudaQueue queue(stream);
  if (p.dtype == Dtype::bf16) return flash_mma_common<Bf16>(queue, p, args, scratch);
  flash_mma_common<F16>(queue, p, args, scratch);
}

}  // namespace attn
