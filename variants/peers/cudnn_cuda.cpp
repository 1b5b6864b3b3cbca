// cuDNN's fused attention without PyTorch around it: a graph of one operation, whose kernel cuDNN chooses and
// compiles for the problem. Time O(h n^2 d), workspace O(n).
// NVIDIA/cudnn-frontend : docs/operations/Attention.md.

#include "variants/peers/peer_variant.h"

namespace attn {
namespace {

class CudnnCuda final : public PeerVariant {
 public:
  CudnnCuda()
      : PeerVariant({.name = "peers/cudnn/cuda",
                     .family = "dense",
                     .device = Device::cuda,
                     .citation = "cuDNN, scaled dot product attention",
                     .version = ATTN_PEER_VERSION,
                     .hides_nan = false},
                    ATTN_PEER_PLUGIN) {}

  Support supports(const Problem& p) const override {
    const bool windowed = causal_window(p) > 0 && p.position.kind == PositionKind::none && p.softcap == 0;
    if (!windowed) {
      if (std::string reason = beyond_plain_attention(p); !reason.empty()) return {reason};
    }
    if (p.dtype == Dtype::f32) return {"bf16 and f16 only"};
    if (p.head_dim != p.value_dim) return {"dv = d only"};
    if (p.head_dim % 8 != 0 || p.head_dim > kWidestHead) return {"d a multiple of 8, up to 256"};
    if (!p.mask.none() && p.seq_q != p.seq_kv) return {"causal only with nq = nk"};
    if (p.seq_q < 2 || p.seq_kv < 2) return {"more than one query and one key"};
    if (p.softmax_scale() <= 0) return {"a positive scale only"};
    return {};
  }

  Cost cost(const Problem& p) const override { return fused_gpu_cost(p); }

 private:
  static constexpr int64_t kWidestHead = 256;
};

ATTN_REGISTER(std::make_unique<CudnnCuda>());

}  // namespace
}  // namespace attn
