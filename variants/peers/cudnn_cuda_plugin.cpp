// The plug-in of peers/cudnn/cuda: graphs of one operation, built by cuDNN's frontend for shapes and strides
// and run on the harness's device memory, where they write O, LSE and gradients themselves.
//
// Inside a timed call: finding the graph and running it. The first call of a problem builds its graph.

#include <cuda_runtime_api.h>
#include <cudnn_frontend.h>

#include <array>
#include <list>
#include <new>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "variants/peers/peer.h"

namespace attn {
namespace {

namespace fe = cudnn_frontend::graph;
using Attributes = std::shared_ptr<fe::Tensor_attributes>;
using Pointers = std::unordered_map<int64_t, void*>;

enum Uid : int64_t { kQ = 1, kK, kV, kO, kStats, kDo, kDq, kDk, kDv };

void require(cudnn_frontend::error_t status) {
  if (status.is_bad()) throw std::runtime_error("cuDNN: " + status.get_message());
}
void require(cudnnStatus_t status) {
  if (status != CUDNN_STATUS_SUCCESS) {
    throw std::runtime_error(std::string("cuDNN: ") + cudnnGetErrorString(status));
  }
}

/// Device memory that lives as long as its graph.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) {
    if (bytes > 0 && cudaMalloc(&data_, static_cast<size_t>(bytes)) != cudaSuccess) {
      cudaGetLastError();
      throw std::bad_alloc();
    }
  }
  Scratch(const Scratch&) = delete;
  ~Scratch() { cudaFree(data_); }
  void* data() const { return data_; }

 private:
  void* data_ = nullptr;
};

using Strides = std::array<int64_t, 3>;  // batch, seq, head

template <class Void>
Strides strides_of(const BasicTensor<Void>& tensor) {
  return {tensor.batch_stride, tensor.seq_stride, tensor.head_stride};
}

/// What a graph depends on.
struct GraphKey {
  std::array<int64_t, 10> numbers;
  double scale;
  std::vector<Strides> strides;  ///< of Q, K, V, O
  bool operator==(const GraphKey&) const = default;
};

class AttentionGraph {
 public:
  AttentionGraph(cudnnHandle_t handle, const PeerProblem& p, const GraphKey& key, bool backward) {
    const auto type =
        p.dtype == Dtype::bf16 ? cudnn_frontend::DataType_t::BFLOAT16 : cudnn_frontend::DataType_t::HALF;
    graph_.set_io_data_type(type)
        .set_intermediate_data_type(cudnn_frontend::DataType_t::FLOAT)
        .set_compute_data_type(cudnn_frontend::DataType_t::FLOAT);
    const Tensor4 q{p.batch, p.heads_q, p.seq_q, p.head_dim, key.strides[0]};
    const Tensor4 k{p.batch, p.heads_kv, p.seq_kv, p.head_dim, key.strides[1]};
    const Tensor4 v{p.batch, p.heads_kv, p.seq_kv, p.value_dim, key.strides[2]};
    const Tensor4 o{p.batch, p.heads_q, p.seq_q, p.value_dim, key.strides[3]};
    // [batch, head, seq, 1]
    const Tensor4 stats{p.batch, p.heads_q, p.seq_q, 1, {p.heads_q * p.seq_q, 1, p.seq_q}};
    if (backward) {
      const auto found =
          graph_.sdpa_backward(input(kQ, q), input(kK, k), input(kV, v), input(kO, o), input(kDo, o),
                               wide(input(kStats, stats)), masked<fe::SDPA_backward_attributes>(p));
      output(found[0], kDq, q);
      output(found[1], kDk, k);
      output(found[2], kDv, v);
    } else {
      const auto found = graph_.sdpa(input(kQ, q), input(kK, k), input(kV, v),
                                     masked<fe::SDPA_attributes>(p).set_generate_stats(true));
      output(found[0], kO, o);
      output(wide(found[1]), kStats, stats);
    }
    require(graph_.build(handle, {cudnn_frontend::HeurMode_t::A}));
    int64_t bytes = 0;
    require(graph_.get_workspace_size(bytes));
    scratch_.emplace(bytes);
  }

  void run(cudnnHandle_t handle, Pointers& pointers) {
    require(graph_.execute(handle, pointers, scratch_->data()));
  }

 private:
  struct Tensor4 {
    int64_t batch, heads, seq, width;
    Strides strides;
  };

  static Attributes& shape(Attributes& attributes, Uid uid, const Tensor4& t) {
    attributes->set_uid(uid)
        .set_dim({t.batch, t.heads, t.seq, t.width})
        .set_stride({t.strides[0], t.strides[2], t.strides[1], 1});
    return attributes;
  }
  static Attributes wide(Attributes attributes) {
    attributes->set_data_type(cudnn_frontend::DataType_t::FLOAT);
    return attributes;
  }
  Attributes input(Uid uid, const Tensor4& t) {
    Attributes attributes = graph_.tensor(fe::Tensor_attributes());
    return shape(attributes, uid, t);
  }
  static void output(Attributes attributes, Uid uid, const Tensor4& t) {
    shape(attributes, uid, t)->set_output(true);
  }
  /// Keys j with i - window < j <= i; without a window all up to i.
  template <class Operation>
  static Operation masked(const PeerProblem& p) {
    Operation operation;
    operation.set_attn_scale(static_cast<float>(p.scale));
    if (p.causal) operation.set_causal_mask(true);
    if (p.window) operation.set_diagonal_band_left_bound(static_cast<int>(p.window));
    return operation;
  }

  fe::Graph graph_;
  std::optional<Scratch> scratch_;
};

class CudnnPeer final : public Peer {
 public:
  /// Another cuDNN on the loader's path would be measured under the name of the wheel's.
  CudnnPeer() {
    if (cudnnGetVersion() != CUDNN_VERSION) {
      throw std::runtime_error("cuDNN " + std::to_string(cudnnGetVersion()) +
                               " is loaded, the wheel brings " + std::to_string(CUDNN_VERSION) +
                               ": see LD_LIBRARY_PATH");
    }
    require(cudnnCreate(&handle_));
  }

  void forward(const PeerProblem& p, const Forward& args) override {
    Pointers pointers = {{kQ, plain(args.q.data)},
                         {kK, plain(args.k.data)},
                         {kV, plain(args.v.data)},
                         {kO, args.o.data},
                         {kStats, args.lse}};
    find(p, {strides_of(args.q), strides_of(args.k), strides_of(args.v), strides_of(args.o)}, false)
        .run(handle_, pointers);
  }

  void backward(const PeerProblem& p, const Backward& args) override {
    Pointers pointers = {{kQ, plain(args.q.data)}, {kK, plain(args.k.data)},    {kV, plain(args.v.data)},
                         {kO, plain(args.o.data)}, {kDo, plain(args.d_o.data)}, {kStats, plain(args.lse)},
                         {kDq, args.d_q.data},     {kDk, args.d_k.data},        {kDv, args.d_v.data}};
    find(p, {strides_of(args.q), strides_of(args.k), strides_of(args.v), strides_of(args.o)}, true)
        .run(handle_, pointers);
  }

 private:
  static constexpr size_t kKept = 4;  // forward and backward, guarded or not

  static void* plain(const void* data) { return const_cast<void*>(data); }

  AttentionGraph& find(const PeerProblem& p, std::vector<Strides> strides, bool backward) {
    require(cudnnSetStream(handle_, static_cast<cudaStream_t>(p.stream)));
    GraphKey key{{p.batch, p.heads_q, p.heads_kv, p.seq_q, p.seq_kv, p.head_dim, p.value_dim,
                  static_cast<int64_t>(p.dtype), p.causal ? p.window : -1, backward},
                 p.scale,
                 std::move(strides)};
    for (auto& [known, graph] : graphs_) {
      if (known == key) return graph;
    }
    if (graphs_.size() == kKept) graphs_.pop_back();  // its kernels have ended: cudaFree waits for them
    graphs_.emplace_front(std::piecewise_construct, std::forward_as_tuple(key),
                          std::forward_as_tuple(handle_, p, key, backward));
    return graphs_.front().second;
  }

  cudnnHandle_t handle_ = nullptr;
  std::list<std::pair<GraphKey, AttentionGraph>> graphs_;  ///< the latest first
};

}  // namespace
}  // namespace attn

extern "C" attn::Peer* attn_open_peer(const char*) { return new attn::CudnnPeer; }
