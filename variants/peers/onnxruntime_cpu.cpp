// ONNX Runtime's attention operators for CPUs: MultiHeadAttention without a mask, GroupQueryAttention with a
// causal one, each a session of one node. Both tile scores online over blocks of keys sized for the L2 cache,
// with MLAS products. Time O(h n^2 d), workspace O(n).
// microsoft/onnxruntime : onnxruntime/contrib_ops/cpu/bert, onnxruntime/core/mlas/lib/flashattn.cpp.

#include "variants/peers/peer_variant.h"

namespace attn {
namespace {

class OnnxRuntimeCpu final : public PeerVariant {
 public:
  OnnxRuntimeCpu()
      : PeerVariant({.name = "peers/onnxruntime/cpu",
                     .family = "dense",
                     .citation = "ONNX Runtime, onnxruntime/contrib_ops/cpu/bert",
                     .version = ATTN_PEER_VERSION,
                     .hides_nan = false,
                     .own_threads = true,
                     .gives_lse = false},
                    ATTN_PEER_PLUGIN) {}

  Support supports(const Problem& p) const override {
    if (std::string reason = beyond_plain_inference(p); !reason.empty()) return {reason};
    if (p.head_dim != p.value_dim) return {"dv = d only"};
    if (p.softmax_scale() == 0) return {"a scale of 0 means the default one"};
    if (p.mask.none() && p.group() != 1) return {"grouped heads only with a causal mask"};
    return {};
  }

  /// Its blocks depend on the cache: the visible pairs, and every operand once.
  Cost cost(const Problem& p) const override {
    const double heads = static_cast<double>(p.heads_q), width = static_cast<double>(p.head_dim);
    const double pairs = heads * static_cast<double>(visible_pairs(p));
    const double rows = static_cast<double>(p.batch * (p.heads_q * p.seq_q + p.heads_kv * p.seq_kv));
    return {4 * pairs * width, pairs, 8 * rows * width, "O(h n^2 d)", "O(n)"};
  }
};

ATTN_REGISTER(std::make_unique<OnnxRuntimeCpu>());

}  // namespace
}  // namespace attn
