// cuDNN's fused attention without PyTorch around it: a graph of one operation, whose kernel cuDNN chooses and
// compiles for the problem. Time O(h n^2 d), workspace O(n).
// NVIDIA/cudnn-frontend : docs/operations/Attention.md.

#include <algorithm>

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

  /// Tiles of 128 x 128.
  Cost cost(const Problem& p) const override {
    const double heads = static_cast<double>(p.heads_q), width = static_cast<double>(p.head_dim);
    const double pairs = heads * static_cast<double>(p.batch * pairs_visited(p));
    const double rows = heads * static_cast<double>(p.batch * p.seq_q);
    const double element = static_cast<double>(bytes_of(p.dtype));
    const double products = p.pass == Pass::bwd ? 5 : 2, streams = p.pass == Pass::bwd ? 2 : 1;
    return {2 * products * pairs * width, pairs,
            streams * 2 * (rows + pairs / static_cast<double>(kTile)) * width * element, "O(h n^2 d)",
            "O(n)"};
  }

 private:
  static constexpr int64_t kTile = 128;
  static constexpr int64_t kWidestHead = 256;

  static int64_t pairs_visited(const Problem& p) {
    if (p.mask.none()) return p.seq_q * p.seq_kv;
    const int64_t window = causal_window(p);
    int64_t pairs = 0;
    for (int64_t i = 0; i < p.seq_q; i += kTile) {
      const int64_t rows = std::min(kTile, p.seq_q - i);
      const int64_t begin = window ? std::max<int64_t>(0, i - window + 1) / kTile * kTile : 0;
      pairs += rows * (std::min(p.seq_kv, i + kTile) - begin);
    }
    return pairs;
  }
};

ATTN_REGISTER(std::make_unique<CudnnCuda>());

}  // namespace
}  // namespace attn
