#include "variants/peers/peer_variant.h"

#include <dlfcn.h>

#include <algorithm>
#include <stdexcept>

namespace attn {
namespace {

/// RTLD_DEEPBIND: a peer must find the matrix products of its own library. OpenBLAS is linked to this program
/// and exports the same names (sgemm_ and the like), which would otherwise be found first.
Peer* open_peer(const std::string& plugin, const std::string& which) {
  void* library = dlopen(plugin.c_str(), RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  if (!library) throw std::runtime_error(std::string("cannot load a peer: ") + dlerror());
  const auto open = reinterpret_cast<OpenPeer>(dlsym(library, kOpenPeer));
  if (!open) throw std::runtime_error(plugin + " is not a plug-in of this program");
  return open(which.c_str());
}

PeerProblem numbers_of(const Context& context, const Problem& p) {
  return {.batch = p.batch,
          .heads_q = p.heads_q,
          .heads_kv = p.heads_kv,
          .seq_q = p.seq_q,
          .seq_kv = p.seq_kv,
          .head_dim = p.head_dim,
          .value_dim = p.value_dim,
          .dtype = p.dtype,
          .causal = !p.mask.none(),
          .scale = p.softmax_scale(),
          .threads = context.threads,
          .stream = context.stream,
          .window = causal_window(p)};
}

Info tagged(Info info) {
  info.tags.push_back("peer");
  info.books_scratch = false;
  return info;
}

}  // namespace

PeerVariant::PeerVariant(Info info, std::string plugin, std::string which)
    : Variant(tagged(std::move(info))), plugin_(std::move(plugin)), which_(std::move(which)) {}

void PeerVariant::load() const {
  std::call_once(loaded_, [this] { peer_ = open_peer(plugin_, which_); });
}

void PeerVariant::prepare(const Context& context, const Problem& p, Workspace&) const {
  load();
  peer_->prepare(numbers_of(context, p));
}

void PeerVariant::forward(const Context& context, const Problem& p, const Forward& args, Workspace&) const {
  peer_->forward(numbers_of(context, p), args);
}

void PeerVariant::backward(const Context& context, const Problem& p, const Backward& args, Workspace&) const {
  peer_->backward(numbers_of(context, p), args);
}

void PeerVariant::collect(const Context& context, const Problem& p) const {
  peer_->collect(numbers_of(context, p));
}

bool is_top_left_causal(const Problem& p) {
  if (!p.mask.band_only()) return false;
  const MaskRule rule = p.mask_rule();
  return rule.band_high == 0 && rule.band_low <= -p.seq_q;
}

int64_t causal_window(const Problem& p) {
  if (!p.mask.band_only()) return 0;
  const MaskRule rule = p.mask_rule();
  return rule.band_high == 0 && rule.band_low > -p.seq_q ? 1 - rule.band_low : 0;
}

std::string beyond_plain_attention(const Problem& p) {
  if (p.position.kind != PositionKind::none) return "no positions";
  if (p.softcap != 0) return "no softcap";
  if (!p.mask.none() && !is_top_left_causal(p)) {
    return "of the masks only none, and causal where query i sees the keys up to i";
  }
  return "";
}

std::string beyond_plain_inference(const Problem& p) {
  if (std::string reason = beyond_plain_attention(p); !reason.empty()) return reason;
  if (p.pass != Pass::fwd) return "forward only";
  if (p.dtype != Dtype::f32) return "float32 only";
  if (p.seq_kv == 0) return "at least one key";
  if (!p.mask.none() && p.seq_q != p.seq_kv) return "causal only with nq = nk";
  return "";
}

namespace {

constexpr int64_t kGpuTile = 128;

int64_t pairs_in_gpu_tiles(const Problem& p) {
  if (p.mask.none()) return p.seq_q * p.seq_kv;
  const int64_t window = causal_window(p);
  int64_t pairs = 0;
  for (int64_t i = 0; i < p.seq_q; i += kGpuTile) {
    const int64_t rows = std::min(kGpuTile, p.seq_q - i);
    const int64_t begin = window ? std::max<int64_t>(0, i - window + 1) / kGpuTile * kGpuTile : 0;
    pairs += rows * (std::min(p.seq_kv, i + kGpuTile) - begin);
  }
  return pairs;
}

}  // namespace

Cost fused_gpu_cost(const Problem& p) {
  const double heads = static_cast<double>(p.heads_q), width = static_cast<double>(p.head_dim);
  const double pairs = heads * static_cast<double>(p.batch * pairs_in_gpu_tiles(p));
  const double rows = heads * static_cast<double>(p.batch * p.seq_q);
  const double element = static_cast<double>(bytes_of(p.dtype));
  const double products = p.pass == Pass::bwd ? 5 : 2, streams = p.pass == Pass::bwd ? 2 : 1;
  return {2 * products * pairs * width, pairs,
          streams * 2 * (rows + pairs / static_cast<double>(kGpuTile)) * width * element, "O(h n^2 d)",
          "O(n)"};
}

}  // namespace attn
