#pragma once
// A variant whose work is done by a plug-in (peer.h): what the peers have in common on the program's side.

#include <memory>
#include <mutex>
#include <string>

#include "variants/peers/peer.h"

namespace attn {

class PeerVariant : public Variant {
 public:
  /// Adds the tag "peer". `plugin` is the path of the shared library, `which` the peer in it.
  PeerVariant(Info info, std::string plugin, std::string which = "");

  /// A peer takes its scratch from its own allocator: nothing is booked, the peak of the process tells.
  void plan(const Context&, const Problem&, Workspace&) const override {}
  void load() const override;
  void prepare(const Context& context, const Problem& p, Workspace&) const override;
  void forward(const Context& context, const Problem& p, const Forward& args, Workspace&) const override;
  void backward(const Context& context, const Problem& p, const Backward& args, Workspace&) const override;
  void collect(const Context& context, const Problem& p) const override;

 private:
  std::string plugin_, which_;
  mutable std::once_flag loaded_;
  mutable Peer* peer_ = nullptr;
};

/// The reason why a plain attention call cannot express the problem: positions, softcap, any mask but none
/// and the causal one that starts in the top left corner (for nq = nk: every causal one). Empty where it can.
std::string beyond_plain_attention(const Problem& p);
/// The same for an operator of an inference library: that, forward in float32, with keys, causal for nq = nk.
std::string beyond_plain_inference(const Problem& p);
/// Keys j <= i and no others are visible.
bool is_top_left_causal(const Problem& p);
/// Keys that a query sees at most where keys 0 <= i - j < window and no others are visible; else 0.
int64_t causal_window(const Problem& p);

/// Of a fused kernel of a GPU library, tiles of 128 x 128: those that a causal mask or window leaves, K and V
/// read once for every tile of queries.
Cost fused_gpu_cost(const Problem& p);

}  // namespace attn
