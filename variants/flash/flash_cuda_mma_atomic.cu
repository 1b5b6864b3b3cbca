// flash/cuda/mma's backward in one kernel (mma.sync, sm_80 and later): bf16 and f16, head widths up to 128.
//
// FlashAttention-2's backward: a thread block holds 128 keys of one head and streams over the query tiles
// that see them. S and dP are computed once, 5 products where flash/cuda/mma has 7; the price is that dQ is
// added up in float32 by all blocks of a head in whatever order they come: its last bits differ from run to
// run, and a pass before and one after the kernel clear the sums and round them. dK and dV are the same bits
// every time. The thread block is flash/cuda/mma's (flash_mma_gradient.cuh, GradientOf::all) with
// flash_mma_query_sums.cuh, where tests run it on the host.
//
// Time O(h n^2 d) (visited tiles only), workspace O(n d): dQ in float32. Dao, "FlashAttention-2", 2023,
// algorithm 2. Measured effect on an H200, bf16, n = 4096, b n = 16k, h d = 2048: d = 128 5.42 ms
// (254 TFLOP/s; causal 3.05 ms), d = 64 5.43 ms (3.07): 0.8 of flash/cuda/mma's time, 1.2 times
// FlashAttention-2's.

#include "harness/variant.h"
#include "variants/flash/flash_mma_atomic.cuh"
#include "variants/flash/flash_mma_common.h"

namespace attn {
namespace {

class FlashCudaMmaAtomic final : public Variant {
 public:
  FlashCudaMmaAtomic()
      : Variant({.name = "flash/cuda/mma/atomic",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores", "not repeatable"},
                 .citation = "Dao 2023"}) {}

  /// The forward is flash/cuda/mma's, for the problems whose backward runs here.
  Support supports(const Problem& p) const override {
    if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
    if (p.head_dim > 128 || p.value_dim > 128) return {"d and dv at most 128"};
    if (p.position.kind != PositionKind::none || p.softcap != 0) return {"no positions, no softcap"};
    const bool forward = p.pass == Pass::fwd;
    if ((forward ? flash_mma_blocks(p) : flash_mma_atomic_blocks(p)) > INT32_MAX)
      return {"more than 2^31 - 1 thread blocks"};
    const auto bytes = static_cast<int64_t>(flash_mma_atomic_shared_bytes(p)) + 1024;
    if (!forward && bytes > CudaQueue::gpu().shared_bytes) {
      return {"more shared memory than this GPU has"};
    }
    return {};
  }

  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    if (p.pass == Pass::fwd) {
      FlashMmaScratch::take(p, counting);
    } else {
      FlashMmaAtomicScratch::take(p, counting);
    }
  }
  Cost cost(const Problem& p) const override {
    return p.pass == Pass::fwd ? flash_mma_cost(p) : flash_mma_atomic_cost(p);
  }
  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    const CudaQueue queue(context.stream);
    if (p.pass == Pass::fwd) return FlashMmaScratch::take(p, workspace).prepare(queue, p);
    FlashMmaAtomicScratch::take(p, workspace).prepare(queue, p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    enqueue_flash_mma_common(context.stream, p, args, FlashMmaScratch::take(p, workspace));
  }
  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    const CudaQueue queue(context.stream);
    const FlashMmaAtomicScratch scratch = FlashMmaAtomicScratch::take(p, workspace);
    if (p.dtype == Dtype::bf16) return flash_mma_atomic_backward<Bf16>(queue, p, args, scratch);
    flash_mma_atomic_backward<F16>(queue, p, args, scratch);
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaMmaAtomic>());

}  // namespace
}  // namespace attn
