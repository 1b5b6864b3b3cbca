// OpenVINO's ScaledDotProductAttention on its CPU device, a compiled model of one operator between
// transposes. The compiler scales Q and transposes K by copying them, and generates one kernel for the rest:
// product, softmax over whole rows, product. A causal mask becomes an n x n constant that is added, nothing
// is skipped. Time O(h n^2 d), memory O(n), causal O(n^2). openvinotoolkit/openvino : src/plugins/intel_cpu,
// src/common/snippets.

#include "variants/peers/peer_variant.h"

namespace attn {
namespace {

class OpenVinoCpu final : public PeerVariant {
 public:
  OpenVinoCpu()
      : PeerVariant({.name = "peers/openvino/cpu",
                     .family = "dense",
                     .citation = "OpenVINO, src/plugins/intel_cpu and src/common/snippets",
                     .version = ATTN_PEER_VERSION,
                     .hides_nan = false,
                     .own_threads = true,
                     .gives_lse = false},
                    ATTN_PEER_PLUGIN) {}

  Support supports(const Problem& p) const override {
    if (std::string reason = beyond_plain_inference(p); !reason.empty()) return {reason};
    if (p.group() != 1) return {"no grouped heads"};
    return {};
  }

  /// The whole square whatever the mask, and every operand once.
  Cost cost(const Problem& p) const override {
    const double heads = static_cast<double>(p.heads_q * p.batch);
    const double pairs = heads * static_cast<double>(p.seq_q * p.seq_kv);
    const double width = static_cast<double>(p.head_dim + p.value_dim);
    const double rows = heads * static_cast<double>(p.seq_q + p.seq_kv);
    return {2 * pairs * width, pairs, 4 * rows * width, "O(h n^2 d)", p.mask.none() ? "O(n)" : "O(n^2)"};
  }
};

ATTN_REGISTER(std::make_unique<OpenVinoCpu>());

}  // namespace
}  // namespace attn
