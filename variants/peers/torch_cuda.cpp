// PyTorch's attention on a GPU, each backend of scaled_dot_product_attention by itself: the operator that the
// dispatcher would choose is called directly, so nothing falls back to another one.
//   cudnn      cuDNN's fused kernels, generated for the problem
//   flash      FlashAttention-2
//   efficient  the memory-efficient kernels of xFormers on CUTLASS; float32 as three TF32 products
//   math       products of cuBLAS and a softmax, O(h n^2) scores; 16-bit tensors widened to float32
// pytorch/pytorch : aten/src/ATen/native/transformers/cuda/attention.cu, aten/src/ATen/native/cudnn/MHA.cpp.

#include "variants/peers/peer_variant.h"

namespace attn {
namespace {

struct Backend {
  const char* name;
  const char* method;
  bool f32;
  int64_t widest_head;      ///< 0: any
  int64_t alignment_bytes;  ///< of one row of a head
  bool backward;
  bool groups;
  bool lse;
  bool fused;
};

constexpr Backend kBackends[] = {
    {"cudnn", "cuDNN's fused attention", false, 256, 16, true, true, true, true},
    {"flash", "FlashAttention-2", false, 256, 16, true, true, true, true},
    {"efficient", "memory-efficient attention of xFormers", true, 0, 16, true, false, true, true},
    {"math", "matrix products and a softmax", true, 0, 1, false, true, false, false},
};

std::string why_not(const Backend& backend, const Problem& p) {
  if (std::string reason = beyond_plain_attention(p); !reason.empty()) return reason;
  if (p.seq_kv == 0) return "at least one key";
  if (!p.mask.none() && p.seq_q != p.seq_kv) return "causal only with nq = nk";
  // A score is masked before it is scaled, or the largest one is taken before.
  if (p.softmax_scale() <= 0) return "a positive scale only";
  if (p.head_dim != p.value_dim) return "dv = d only";
  if (p.dtype == Dtype::f32 && !backend.f32) return "bf16 and f16 only";
  if (p.head_dim * static_cast<int64_t>(bytes_of(p.dtype)) % backend.alignment_bytes != 0) {
    return "d a multiple of " + std::to_string(backend.alignment_bytes) + " bytes";
  }
  if (backend.widest_head && p.head_dim > backend.widest_head) {
    return "d up to " + std::to_string(backend.widest_head);
  }
  if (!backend.groups && p.group() != 1) return "grouped heads only by copying K and V";
  return "";
}

class TorchCuda final : public PeerVariant {
 public:
  explicit TorchCuda(const Backend& backend)
      : PeerVariant({.name = std::string("peers/torch/cuda/") + backend.name,
                     .family = "dense",
                     .device = Device::cuda,
                     // How it multiplies float32: held against the roof of that.
                     .tags = std::string(backend.name) == "efficient" ? std::vector<std::string>{"tf32x3"}
                                                                      : std::vector<std::string>{},
                     .citation = std::string("PyTorch, ") + backend.method,
                     .version = ATTN_PEER_VERSION,
                     .hides_nan = false,
                     .gives_lse = backend.lse,
                     .no_graph = "its results lie in memory that PyTorch's allocator gives to others later"},
                    ATTN_PEER_PLUGIN, backend.name),
        backend_(backend) {}

  Support supports(const Problem& p) const override {
    if (std::string reason = why_not(backend_, p); !reason.empty()) return {reason};
    const std::string name = backend_.name;
    if (name == "cudnn" && (p.seq_q == 1 || p.seq_kv == 1)) return {"more than one query and one key"};
    if (p.pass == Pass::fwd) return {};
    if (!backend_.backward) return {"forward only: its gradients are those of single operators"};
    if (name == "efficient" && p.seq_q % kLseRows != 0) {
      return {"backward with nq a multiple of " + std::to_string(kLseRows) + ": its LSE has whole blocks"};
    }
    return {};
  }

  /// `math` computes everything and keeps the scores.
  Cost cost(const Problem& p) const override {
    if (backend_.fused) return fused_gpu_cost(p);
    const double heads = static_cast<double>(p.heads_q * p.batch), width = static_cast<double>(p.head_dim);
    const double rows = heads * static_cast<double>(p.seq_q), pairs = rows * static_cast<double>(p.seq_kv);
    const double element = static_cast<double>(bytes_of(p.dtype));
    const double products = p.pass == Pass::bwd ? 5 : 2, streams = p.pass == Pass::bwd ? 2 : 1;
    return {2 * products * pairs * width, pairs, streams * (2 * rows * width * element + 8 * pairs),
            "O(h n^2 d)", "O(h n^2)"};
  }

 private:
  static constexpr int64_t kLseRows = 32;

  const Backend& backend_;
};

[[maybe_unused]] const bool registered = [] {
  for (const Backend& backend : kBackends) register_variant(std::make_unique<TorchCuda>(backend));
  return true;
}();

}  // namespace
}  // namespace attn
