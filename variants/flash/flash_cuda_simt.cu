// Fused attention on CUDA cores: float32 forward with LSE, every mask and position, head widths up to
// 256. The backward has a file of its own.
//
// A thread block holds 64 queries of one head in shared memory and streams over the key tiles that its mask
// does not call empty, keeping a running maximum, sum and output per row (online softmax), so that no score
// leaves the chip. This is the rung for coverage: any shape, stride and alignment. Kernels for tensor cores
// are files of their own beside this one. The thread block stands in flash_simt.cuh, where tests run it on
// the host.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n): the mask's arrays, rotated copies of Q and K for
// RoPE, one row of biases per head for ALiBi and T5. Dao, "FlashAttention-2", 2023, algorithm 1.
// Measured effect: 19.2 ms on an H200 for d = 128, n = 4096, b n = 16k, h d = 2048 (29 TFLOP/s).

#include "harness/variant.h"
#include "variants/flash/flash_cuda_backward.h"
#include "variants/flash/flash_simt_forward.cuh"

namespace attn {
namespace {

class FlashCudaSimt final : public Variant {
 public:
  FlashCudaSimt()
      : Variant({.name = "flash/cuda/simt",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled"},
                 .citation = "Dao 2023"}) {}

  Support supports(const Problem& p) const override {
    if (p.pass == Pass::bwd) return FlashCudaSimtBackward::supports(p);
    if (p.dtype != Dtype::f32) return {"float32 only"};
    if (p.head_dim > kFlashSimtWidest || p.value_dim > kFlashSimtWidest) return {"d and dv at most 256"};
    if (flash_simt_blocks(p) > INT32_MAX) return {"more than 2^31 - 1 thread blocks"};
    return {};
  }

  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    if (p.pass == Pass::bwd) return FlashCudaSimtBackward::plan(p, counting);
    FlashScratch::take(p, counting);
  }
  Cost cost(const Problem& p) const override {
    return p.pass == Pass::bwd ? FlashCudaSimtBackward::cost(p) : flash_simt_cost(p);
  }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    if (p.pass == Pass::bwd) return FlashCudaSimtBackward::prepare(context, p, workspace);
    FlashScratch::take(p, workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    flash_simt_forward(CudaQueue(context.stream), p, args, FlashScratch::take(p, workspace));
  }
  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    FlashCudaSimtBackward::run(context, p, args, workspace);
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaSimt>());

}  // namespace
}  // namespace attn
