// The plug-in of peers/torch/cpu: ATen's operators on tensors that borrow the harness's memory.
//
// Inside a timed call: wrapping (no copy), the dispatch of one operator, the operator with its allocations,
// and copies of what it returns in tensors of its own (O, LSE, gradients), since no variant of the operators
// writes into given tensors.

#include <ATen/Parallel.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_for_cpu_backward.h>
#include <ATen/ops/randn.h>

#include "variants/peers/torch_tensors.h"

namespace attn {
namespace {

const c10::Device kCpu(c10::DeviceType::CPU);

template <class Void>
at::Tensor wrap(const BasicTensor<Void>& tensor, const PeerProblem& p, int64_t heads, int64_t seq) {
  return borrow(tensor, p, heads, seq, p.head_dim, kCpu);
}

at::Tensor wrap_lse(const float* lse, const PeerProblem& p) { return borrow_lse(lse, p, kCpu); }

/// The setting costs more than the question, so it is only made where it changes something.
void pin_threads(int threads) {
  if (at::get_num_threads() != threads) at::set_num_threads(threads);
  if (at::get_num_threads() != threads) {
    throw std::runtime_error("PyTorch uses " + std::to_string(at::get_num_threads()) +
                             " threads instead of " + std::to_string(threads));
  }
}

class TorchPeer final : public Peer {
 public:
  /// A first call brings in what the library sets up once; it must not count as the memory of a problem.
  TorchPeer() {
    translated([] {
      const at::Tensor x = at::randn({1, 2, 64, 64});
      at::_scaled_dot_product_flash_attention_for_cpu(x, x, x);
    });
  }

  void forward(const PeerProblem& p, const Forward& args) override {
    translated([&] {
      pin_threads(p.threads);
      const auto [o, lse] = at::_scaled_dot_product_flash_attention_for_cpu(
          wrap(args.q, p, p.heads_q, p.seq_q), wrap(args.k, p, p.heads_kv, p.seq_kv),
          wrap(args.v, p, p.heads_kv, p.seq_kv), 0.0, p.causal, {}, p.scale);
      wrap(args.o, p, p.heads_q, p.seq_q).copy_(o);
      wrap_lse(args.lse, p).copy_(lse);
    });
  }

  void backward(const PeerProblem& p, const Backward& args) override {
    translated([&] {
      pin_threads(p.threads);
      const auto [d_q, d_k, d_v] = at::_scaled_dot_product_flash_attention_for_cpu_backward(
          wrap(args.d_o, p, p.heads_q, p.seq_q), wrap(args.q, p, p.heads_q, p.seq_q),
          wrap(args.k, p, p.heads_kv, p.seq_kv), wrap(args.v, p, p.heads_kv, p.seq_kv),
          wrap(args.o, p, p.heads_q, p.seq_q), wrap_lse(args.lse, p), 0.0, p.causal, {}, p.scale);
      wrap(args.d_q, p, p.heads_q, p.seq_q).copy_(d_q);
      wrap(args.d_k, p, p.heads_kv, p.seq_kv).copy_(d_k);
      wrap(args.d_v, p, p.heads_kv, p.seq_kv).copy_(d_v);
    });
  }
};

}  // namespace
}  // namespace attn

extern "C" attn::Peer* attn_open_peer(const char*) { return new attn::TorchPeer; }
