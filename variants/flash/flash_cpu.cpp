// Flash attention on the CPU, forward and backward; float32, bf16 and f16 tensors, float32 arithmetic.
//
// Online softmax over tiles: a block of queries of one head stays in cache while all key tiles of its band
// stream past (variants/common/tiled_attention.h has the arithmetic). Tiles that the mask empties are
// skipped; threads share out (batch, head, query block), longest first.
//
// Time O(h n^2 d), workspace O(n). Dao et al. 2022 (FlashAttention); Dao 2023 (FlashAttention-2) for the
// order of loops.

#include "variants/common/tiled_attention.h"

namespace attn {
namespace {

class FlashCpu final : public Variant {
 public:
  FlashCpu()
      : Variant({.name = "flash/cpu",
                 .family = "dense",
                 .tags = {"fused", "simd"},
                 .citation = "Dao et al. 2022; Dao 2023"}) {}

  Support supports(const Problem&) const override { return {}; }

  void plan(const Context& context, const Problem& p, Workspace& workspace) const override {
    TiledScratch::take(context, p, choose_tiling(context, p), workspace);
  }

  Cost cost(const Problem& p) const override { return tiled_cost(p, kKeyTile); }

  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    TiledScratch::take(context, p, choose_tiling(context, p), workspace).prepare(p);
  }

  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    const TiledScratch scratch = TiledScratch::take(context, p, choose_tiling(context, p), workspace);
    tiled_forward(context, p, args, choose_tiling(context, p), {}, scratch);
  }

  void backward(const Context& context, const Problem& p, const Backward& args,
                Workspace& workspace) const override {
    const TiledScratch scratch = TiledScratch::take(context, p, choose_tiling(context, p), workspace);
    tiled_backward(context, p, args, choose_tiling(context, p), {}, scratch);
  }
};

ATTN_REGISTER(std::make_unique<FlashCpu>());

}  // namespace
}  // namespace attn
