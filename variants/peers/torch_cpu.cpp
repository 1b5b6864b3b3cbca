// PyTorch's fused attention for CPUs, as scaled_dot_product_attention chooses it: FlashAttention-2 over
// blocks of queries and of 512 keys, a matrix product of MKL per block, vectorised softmax, threads over
// batch x heads x query blocks (backward: batch x heads). Time O(h n^2 d), workspace O(n).
// pytorch/pytorch : aten/src/ATen/native/cpu/FlashAttentionKernel.cpp.

#include <algorithm>

#include "variants/peers/peer_variant.h"

namespace attn {
namespace {

constexpr int64_t kKeyBlock = 512;

int64_t query_block(int64_t seq_q) { return seq_q >= 768 ? 256 : seq_q >= 192 ? 64 : 32; }

/// Pairs per head in the blocks it visits: a causal block ends with the block of keys of its last query.
double pairs_visited(const Problem& p) {
  const int64_t block = query_block(p.seq_q);
  int64_t pairs = 0;
  for (int64_t i = 0; i < p.seq_q; i += block) {
    const int64_t end = std::min(i + block, p.seq_q);
    const int64_t keys = p.mask.none() ? p.seq_kv : std::min(end, p.seq_kv);
    pairs += (end - i) * std::min(p.seq_kv, (keys + kKeyBlock - 1) / kKeyBlock * kKeyBlock);
  }
  return static_cast<double>(pairs * p.batch);
}

class TorchCpu final : public PeerVariant {
 public:
  TorchCpu()
      : PeerVariant({.name = "peers/torch/cpu",
                     .family = "dense",
                     .citation = "PyTorch, aten/src/ATen/native/cpu/FlashAttentionKernel.cpp",
                     .version = ATTN_PEER_VERSION,
                     .hides_nan = false},
                    ATTN_PEER_PLUGIN) {}

  Support supports(const Problem& p) const override {
    if (std::string reason = beyond_plain_attention(p); !reason.empty()) return {reason};
    // Its 16-bit paths pass for O, but take an exp of 20 bits: the LSE is 5e-5 too small, 54 times the bound.
    if (p.dtype != Dtype::f32) return {"float32 only: in 16 bits its LSE is wrong by more than the bound"};
    if (p.head_dim != p.value_dim) return {"dv = d only"};
    // Masked scores become -inf before they are scaled.
    if (!p.mask.none() && p.softmax_scale() <= 0) return {"causal with a positive scale only, else NaN"};
    if (!p.mask.none() && p.seq_kv > p.seq_q) return {"no keys behind the last query: NaN there reaches O"};
    if (p.seq_kv == 0) return {"at least one key"};
    return {};
  }

  /// Read and written once: Q, O, and K and V for every block of queries.
  Cost cost(const Problem& p) const override {
    const double heads = static_cast<double>(p.heads_q), width = static_cast<double>(p.head_dim);
    const double pairs = heads * pairs_visited(p);
    const double rows = heads * static_cast<double>(p.batch * p.seq_q);
    const double element = static_cast<double>(bytes_of(p.dtype));
    const double products = p.pass == Pass::bwd ? 5 : 2, streams = p.pass == Pass::bwd ? 2 : 1;
    const double key_bytes = 2 * pairs / static_cast<double>(query_block(p.seq_q)) * width * element;
    return {2 * products * pairs * width, pairs, streams * (2 * rows * width * element + key_bytes),
            "O(h n^2 d)", "O(n)"};
  }
};

ATTN_REGISTER(std::make_unique<TorchCpu>());

}  // namespace
}  // namespace attn
