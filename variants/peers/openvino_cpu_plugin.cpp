// The plug-in of peers/openvino/cpu: a model compiled per problem, run on tensors that borrow the harness's
// memory.
//
// Inside a timed call: wrapping (no copy where the operands are [batch, seq, head, width] without gaps; other
// layouts are copied) and the inference, with the transposes between that layout and OpenVINO's [batch, head,
// seq, width] as part of the model. O is written into the harness's memory.

#include <openvino/op/constant.hpp>
#include <openvino/op/parameter.hpp>
#include <openvino/op/scaled_dot_product_attention.hpp>
#include <openvino/op/transpose.hpp>
#include <openvino/runtime/core.hpp>
#include <optional>
#include <tuple>

#include "variants/peers/packed.h"

namespace attn {
namespace {

using Node = std::shared_ptr<ov::Node>;

ov::Shape shape_of(int64_t batch, int64_t seq, int64_t heads, int64_t width) {
  return {static_cast<size_t>(batch), static_cast<size_t>(seq), static_cast<size_t>(heads),
          static_cast<size_t>(width)};
}

Node swap_seq_and_head(const Node& x) {
  const auto order =
      ov::op::v0::Constant::create(ov::element::i64, ov::Shape{4}, std::vector<int64_t>{0, 2, 1, 3});
  return std::make_shared<ov::op::v1::Transpose>(x, order);
}

std::shared_ptr<ov::Model> make_model(const PeerProblem& p) {
  const auto input = [](const ov::Shape& shape) {
    return std::make_shared<ov::op::v0::Parameter>(ov::element::f32, shape);
  };
  const auto q = input(shape_of(p.batch, p.seq_q, p.heads_q, p.head_dim));
  const auto k = input(shape_of(p.batch, p.seq_kv, p.heads_kv, p.head_dim));
  const auto v = input(shape_of(p.batch, p.seq_kv, p.heads_kv, p.value_dim));
  const auto no_mask = ov::op::v0::Constant::create(ov::element::f32, ov::Shape{}, {0.0f});
  const auto scale =
      ov::op::v0::Constant::create(ov::element::f32, ov::Shape{}, {static_cast<float>(p.scale)});
  const auto attention = std::make_shared<ov::op::v13::ScaledDotProductAttention>(
      swap_seq_and_head(q), swap_seq_and_head(k), swap_seq_and_head(v), no_mask, scale, p.causal);
  return std::make_shared<ov::Model>(ov::OutputVector{swap_seq_and_head(attention)},
                                     ov::ParameterVector{q, k, v});
}

/// What a compiled model depends on.
auto key_of(const PeerProblem& p) {
  return std::make_tuple(p.batch, p.heads_q, p.heads_kv, p.seq_q, p.seq_kv, p.head_dim, p.value_dim, p.causal,
                         p.scale, p.threads);
}

class OpenVinoPeer final : public Peer {
 public:
  OpenVinoPeer() {
    std::vector<float> zeros(4096), o(4096);
    const ConstTensor in = contiguous<const void>(zeros.data(), 64, 1, 64);
    const Forward args{.q = in, .k = in, .v = in, .o = contiguous<void>(o.data(), 64, 1, 64)};
    forward({1, 1, 1, 64, 64, 64, 64, Dtype::f32, false, 0.125, 1}, args);
  }

  /// One compiled model is kept: the last problem's.
  void prepare(const PeerProblem& p) override {
    if (key_ == key_of(p)) return;
    key_.reset();
    // Unpinned: OpenVINO would bind its threads, this program's among them, to cores.
    ov::CompiledModel compiled = core_.compile_model(
        make_model(p), "CPU", ov::inference_num_threads(p.threads), ov::num_streams(1),
        ov::hint::enable_cpu_pinning(false), ov::hint::inference_precision(ov::element::f32));
    const int threads = compiled.get_property(ov::inference_num_threads);
    if (threads != p.threads) {
      throw std::runtime_error("OpenVINO uses " + std::to_string(threads) + " threads instead of " +
                               std::to_string(p.threads));
    }
    request_ = compiled.create_infer_request();
    key_ = key_of(p);
  }

  void forward(const PeerProblem& p, const Forward& args) override {
    prepare(p);
    PackedForward packed(p, args);
    const auto wrap = [&](Packed& x, int64_t seq, int64_t heads, int64_t width) {
      return ov::Tensor(ov::element::f32, shape_of(p.batch, seq, heads, width), x.data());
    };
    request_.set_input_tensor(0, wrap(packed.q, p.seq_q, p.heads_q, p.head_dim));
    request_.set_input_tensor(1, wrap(packed.k, p.seq_kv, p.heads_kv, p.head_dim));
    request_.set_input_tensor(2, wrap(packed.v, p.seq_kv, p.heads_kv, p.value_dim));
    request_.set_output_tensor(wrap(packed.o, p.seq_q, p.heads_q, p.value_dim));
    request_.infer();
    packed.o.scatter();
  }

 private:
  ov::Core core_;
  ov::InferRequest request_;
  std::optional<decltype(key_of(std::declval<PeerProblem>()))> key_;
};

}  // namespace
}  // namespace attn

extern "C" attn::Peer* attn_open_peer(const char*) { return new attn::OpenVinoPeer; }
