#pragma once
// What a plug-in offers: someone else's attention behind plain arguments. A plug-in is a shared library of
// its own, loaded where it is first used, so that the program starts without the libraries behind it. Program
// and plug-in come from one build; a plug-in links nothing of the harness.

#include "harness/variant.h"

namespace attn {

/// The numbers of a problem that a peer may be asked for.
struct PeerProblem {
  int64_t batch, heads_q, heads_kv, seq_q, seq_kv, head_dim, value_dim;
  Dtype dtype;
  bool causal;  ///< key j is visible to query i where j <= i
  double scale;
  int threads;
  void* stream = nullptr;  ///< cudaStream_t of a GPU peer
  int64_t window = 0;      ///< with causal, keys that a query sees at most, its own among them; 0: no window
};

/// Every function throws std::runtime_error with one line where the library refuses.
class Peer {
 public:
  virtual ~Peer() = default;
  /// Untimed set-up for a problem, such as a session or a compiled graph.
  virtual void prepare(const PeerProblem&) {}
  /// Uses exactly problem.threads threads, or throws where the library reports another number.
  virtual void forward(const PeerProblem& problem, const Forward& args) = 0;
  virtual void backward(const PeerProblem&, const Backward&) { throw std::runtime_error("no backward"); }
  /// Untimed, see Variant::collect; on problem.stream.
  virtual void collect(const PeerProblem&) {}
};

/// The one function a plug-in exports; `which` is for those that hold several peers. A peer lives as long as
/// the process.
using OpenPeer = Peer* (*)(const char* which);
inline constexpr const char* kOpenPeer = "attn_open_peer";

}  // namespace attn
