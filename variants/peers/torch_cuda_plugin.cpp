// The plug-in of peers/torch/cuda/*: ATen's operators on tensors that borrow the harness's device memory, on
// the harness's stream.
//
// Inside a timed call: wrapping (no copy), the dispatch of one operator, and the operator with its
// allocations from PyTorch's cache. The operators return O, LSE and gradients in tensors of their own; these
// are copied into the harness's by collect(), outside the timed call, since at n = 512 the copy would be a
// third of it.

#include <ATen/Context.h>
#include <ATen/ops/_scaled_dot_product_attention_math.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention.h>
#include <ATen/ops/_scaled_dot_product_cudnn_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention.h>
#include <ATen/ops/_scaled_dot_product_efficient_attention_backward.h>
#include <ATen/ops/_scaled_dot_product_flash_attention.h>
#include <ATen/ops/_scaled_dot_product_flash_attention_backward.h>
#include <ATen/ops/zeros.h>
#include <c10/cuda/CUDAGuard.h>
#include <c10/cuda/CUDAStream.h>

#include <string_view>
#include <utility>
#include <vector>

#include "variants/peers/torch_tensors.h"

namespace attn {
namespace {

const c10::Device kGpu(c10::DeviceType::CUDA, 0);

struct Inputs3 {
  at::Tensor q, k, v;
};
struct Gradients3 {
  at::Tensor d_q, d_k, d_v;
};

template <class Args>
Inputs3 borrow_inputs(const PeerProblem& p, const Args& args) {
  return {borrow(args.q, p, p.heads_q, p.seq_q, p.head_dim, kGpu),
          borrow(args.k, p, p.heads_kv, p.seq_kv, p.head_dim, kGpu),
          borrow(args.v, p, p.heads_kv, p.seq_kv, p.value_dim, kGpu)};
}

/// Another cuDNN on the loader's path would be measured under the name of the wheel's.
void require_cudnn() {
  const long loaded = at::Context::versionRuntimeCuDNN();
  if (loaded == ATTN_CUDNN_VERSION) return;
  throw std::runtime_error("PyTorch loads cuDNN " + std::to_string(loaded) + ", its wheel brings " +
                           std::to_string(ATTN_CUDNN_VERSION) + ": see LD_LIBRARY_PATH");
}

/// One backend: its operators, and what they returned until it is collected.
class TorchCudaPeer : public Peer {
 public:
  TorchCudaPeer() {
    translated([this] {
      at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
      require_cudnn();
      // Wants of dropout alone, which is off.
      seed_ = at::zeros({2}, at::TensorOptions(at::kLong).device(kGpu));
    });
  }

  void forward(const PeerProblem& p, const Forward& args) final {
    on_stream(p, [&] {
      results_.clear();
      const auto [o, lse] = forward_of(p, borrow_inputs(p, args));
      results_.emplace_back(borrow(args.o, p, p.heads_q, p.seq_q, p.value_dim, kGpu), o);
      // Some pad the rows, some end with an axis of one.
      if (lse.defined()) {
        const at::Tensor rows = lse.dim() == 4 ? lse.squeeze(-1) : lse;
        results_.emplace_back(borrow_lse(args.lse, p, kGpu), rows.narrow(2, 0, p.seq_q));
      }
    });
  }

  void backward(const PeerProblem& p, const Backward& args) final {
    on_stream(p, [&] {
      results_.clear();
      const at::Tensor o = borrow(args.o, p, p.heads_q, p.seq_q, p.value_dim, kGpu);
      const at::Tensor d_o = borrow(args.d_o, p, p.heads_q, p.seq_q, p.value_dim, kGpu);
      const auto [d_q, d_k, d_v] =
          backward_of(p, borrow_inputs(p, args), o, borrow_lse(args.lse, p, kGpu), d_o);
      results_.emplace_back(borrow(args.d_q, p, p.heads_q, p.seq_q, p.head_dim, kGpu), d_q);
      results_.emplace_back(borrow(args.d_k, p, p.heads_kv, p.seq_kv, p.head_dim, kGpu), d_k);
      results_.emplace_back(borrow(args.d_v, p, p.heads_kv, p.seq_kv, p.value_dim, kGpu), d_v);
    });
  }

  /// Once: a second collection without a call would pass off an earlier result as a new one.
  void collect(const PeerProblem& p) final {
    on_stream(p, [&] {
      for (const auto& [to, from] : std::exchange(results_, {})) to.copy_(from);
    });
  }

 protected:
  using OutputAndLse = std::pair<at::Tensor, at::Tensor>;

  virtual OutputAndLse forward_of(const PeerProblem& p, const Inputs3& in) = 0;
  virtual Gradients3 backward_of(const PeerProblem&, const Inputs3&, const at::Tensor&, const at::Tensor&,
                                 const at::Tensor&) {
    throw std::runtime_error("no backward");
  }
  const at::Tensor& seed() const { return seed_; }

 private:
  template <class Work>
  static void on_stream(const PeerProblem& p, Work work) {
    translated([&] {
      const c10::cuda::CUDAStreamGuard guard(
          c10::cuda::getStreamFromExternal(static_cast<cudaStream_t>(p.stream), kGpu.index()));
      work();
    });
  }

  at::Tensor seed_;
  std::vector<std::pair<at::Tensor, at::Tensor>> results_;  ///< to, from
};

class CudnnPeer final : public TorchCudaPeer {
  OutputAndLse forward_of(const PeerProblem& p, const Inputs3& in) override {
    const auto result =
        at::_scaled_dot_product_cudnn_attention(in.q, in.k, in.v, {}, true, 0.0, p.causal, false, p.scale);
    return {std::get<0>(result), std::get<1>(result)};
  }
  Gradients3 backward_of(const PeerProblem& p, const Inputs3& in, const at::Tensor& o, const at::Tensor& lse,
                         const at::Tensor& d_o) override {
    const auto [d_q, d_k, d_v] = at::_scaled_dot_product_cudnn_attention_backward(
        d_o, in.q, in.k, in.v, o, lse.unsqueeze(-1), seed()[0], seed()[1], {}, {}, {}, p.seq_q, p.seq_kv, 0.0,
        p.causal, p.scale);
    return {d_q, d_k, d_v};
  }
};

class FlashPeer final : public TorchCudaPeer {
  OutputAndLse forward_of(const PeerProblem& p, const Inputs3& in) override {
    const auto result =
        at::_scaled_dot_product_flash_attention(in.q, in.k, in.v, 0.0, p.causal, false, p.scale);
    return {std::get<0>(result), std::get<1>(result)};
  }
  Gradients3 backward_of(const PeerProblem& p, const Inputs3& in, const at::Tensor& o, const at::Tensor& lse,
                         const at::Tensor& d_o) override {
    const auto [d_q, d_k, d_v] = at::_scaled_dot_product_flash_attention_backward(
        d_o, in.q, in.k, in.v, o, lse, {}, {}, p.seq_q, p.seq_kv, 0.0, p.causal, seed(), seed(), p.scale);
    return {d_q, d_k, d_v};
  }
};

class EfficientPeer final : public TorchCudaPeer {
  OutputAndLse forward_of(const PeerProblem& p, const Inputs3& in) override {
    const auto result =
        at::_scaled_dot_product_efficient_attention(in.q, in.k, in.v, {}, true, 0.0, p.causal, p.scale);
    return {std::get<0>(result), std::get<1>(result)};
  }
  Gradients3 backward_of(const PeerProblem& p, const Inputs3& in, const at::Tensor& o, const at::Tensor& lse,
                         const at::Tensor& d_o) override {
    const auto [d_q, d_k, d_v, d_bias] = at::_scaled_dot_product_efficient_attention_backward(
        d_o, in.q, in.k, in.v, {}, o, lse, seed()[0], seed()[1], 0.0, {true, true, true, false}, p.causal,
        p.scale);
    return {d_q, d_k, d_v};
  }
};

class MathPeer final : public TorchCudaPeer {
  OutputAndLse forward_of(const PeerProblem& p, const Inputs3& in) override {
    const auto [o, weights] = at::_scaled_dot_product_attention_math(in.q, in.k, in.v, {}, 0.0, p.causal, {},
                                                                     p.scale, p.heads_q != p.heads_kv);
    return {o, {}};
  }
};

}  // namespace
}  // namespace attn

extern "C" attn::Peer* attn_open_peer(const char* which) {
  const std::string_view name = which;
  if (name == "cudnn") return new attn::CudnnPeer;
  if (name == "flash") return new attn::FlashPeer;
  if (name == "efficient") return new attn::EfficientPeer;
  if (name == "math") return new attn::MathPeer;
  throw std::runtime_error("PyTorch has no backend '" + std::string(which) + "'");
}
