// PyTorch's FlexAttention, compiled by torch.compile for the mask and the score modification of the problem:
// a template of FlashAttention-2's forward and backward, in Triton on a GPU and in C++ on a CPU, that visits
// the tiles of a block mask of 128 x 128. Time O(h d . visible pairs), workspace O(n + tiles).
// pytorch/pytorch : torch/nn/attention/flex_attention.py, torch/_inductor/kernel/flex.
//
// It runs in a Python process of its own (flex_worker.py), which times itself. Tensors go there and results
// come back in every call of forward() and backward(); what is timed is the compiled call alone.

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <mutex>
#include <vector>

#include "harness/run/device.h"
#include "variants/peers/flex_process.h"

namespace attn {
namespace {

using nlohmann::json;

/// Of every distance from 1 - seq_q to seq_kv - 1: what is added to a score of a head.
std::vector<float> bias_of(const Problem& p, const std::vector<float>& t5) {
  const int64_t first = p.offset() + p.seq_q - 1, distances = p.seq_q + p.seq_kv - 1;
  std::vector<float> bias;
  for (int64_t h = 0; h < p.heads_q; ++h) {
    for (int64_t t = 0; t < distances; ++t) {
      const int64_t distance = t - first;
      bias.push_back(p.position.t5() ? t5[static_cast<size_t>(p.position.t5_bucket(distance) * p.heads_q + h)]
                                     : static_cast<float>(-alibi_slope(p.heads_q, h) *
                                                          std::abs(static_cast<double>(distance))));
    }
  }
  return bias;
}

json numbers_of(const Problem& p, int threads) {
  const MaskRule rule = p.mask_rule();
  const int64_t beyond = p.seq_q + p.seq_kv;  // an open side; the compiled kernel counts in 32 bits
  json lengths = json::array(), blocks;
  for (int64_t b = 0; b < rule.lengths_count; ++b) lengths.push_back(rule.key_length(b));
  if (rule.blocks) {
    const int64_t rows = (p.seq_q + rule.block_q - 1) / rule.block_q;
    blocks = {
        {"block_q", rule.block_q},
        {"block_kv", rule.block_kv},
        {"columns", rule.block_columns},
        {"visible", std::vector<uint8_t>(rule.blocks, rule.blocks + rows * rule.block_columns)},
    };
  }
  json documents;  // the first position of each one's document
  for (int64_t i = 0; rule.documents && i < p.seq_q; ++i) documents.push_back(rule.documents[i].begin);
  return {{"masked", !p.mask.none()},
          {"band_low", std::max(rule.band_low, -beyond)},
          {"band_high", std::min(rule.band_high, beyond)},
          {"seq_q", p.seq_q},
          {"seq_kv", p.seq_kv},
          {"lengths", lengths},
          {"documents", documents},
          {"blocks", blocks},
          {"batch", p.batch},
          {"heads_q", p.heads_q},
          {"heads_kv", p.heads_kv},
          {"scale", p.softmax_scale()},
          {"softcap", p.softcap},
          {"threads", threads},
          {"biased", p.position.toeplitz()}};
}

class Flex final : public Variant {
 public:
  explicit Flex(Device device)
      : Variant({.name = device == Device::cuda ? "peers/flex/cuda" : "peers/flex/cpu",
                 .family = "sparse",
                 .device = device,
                 .tags = {"peer"},
                 .citation = "PyTorch, torch.nn.attention.flex_attention",
                 .version = ATTN_FLEX_VERSION,
                 .hides_nan = false,
                 .own_threads = device == Device::cpu,
                 .gives_lse = device == Device::cuda,
                 .books_scratch = false,
                 .no_graph = "runs in a process of its own"}) {}

  Support supports(const Problem& p) const override {
    const bool on_cpu = info().device == Device::cpu;
    if (p.position.kind != PositionKind::none && !p.position.toeplitz())
      return {"of the positions only biases"};
    if (on_cpu && (p.pass == Pass::bwd || p.dtype != Dtype::f32)) return {"on a CPU forward in float32 only"};
    if (p.pass == Pass::bwd && p.position.t5()) return {"no gradient of the T5 table"};
    if (p.head_dim != p.value_dim) return {"dv = d only"};
    const bool power = (p.head_dim & (p.head_dim - 1)) == 0;
    if (!power || p.head_dim < 16 || p.head_dim > 256) return {"d a power of two from 16 to 256"};
    if (p.seq_kv == 0) return {"at least one key"};
    return {};
  }

  void plan(const Context&, const Problem&, Workspace&) const override {}

  /// Of the tiles it visits, the visible pairs are what is known here.
  Cost cost(const Problem& p) const override {
    const double heads = static_cast<double>(p.heads_q), width = static_cast<double>(p.head_dim);
    const double pairs = heads * static_cast<double>(visible_pairs(p));
    const double rows = static_cast<double>(p.batch * (p.heads_q * p.seq_q + p.heads_kv * p.seq_kv));
    const double products = p.pass == Pass::bwd ? 5 : 2;
    return {2 * products * pairs * width, pairs, 2 * rows * width * static_cast<double>(bytes_of(p.dtype)),
            "O(h d visible)", "O(n)"};
  }

  void load() const override {
    std::call_once(started_, [this] {
      process_ = std::make_unique<FlexProcess>(info().device == Device::cuda ? "cuda" : "cpu");
    });
  }

  void prepare(const Context& context, const Problem& p, Workspace&) const override {
    load();
    process_->ask({{"op", "prepare"}, {"problem", numbers_of(p, context.threads)}});
  }

  void forward(const Context&, const Problem& p, const Forward& args, Workspace&) const override {
    Exchange exchange(*this, p);
    exchange.send("q", args.q, p.seq_q, p.heads_q, p.head_dim);
    exchange.send("k", args.k, p.seq_kv, p.heads_kv, p.head_dim);
    exchange.send("v", args.v, p.seq_kv, p.heads_kv, p.value_dim);
    exchange.send_bias(args.tables);
    exchange.expect("o", args.o, p.seq_q, p.heads_q, p.value_dim);
    if (info().gives_lse) exchange.expect_lse(args.lse);
    exchange.run("forward");
  }

  void backward(const Context&, const Problem& p, const Backward& args, Workspace&) const override {
    Exchange exchange(*this, p);
    exchange.send("q", args.q, p.seq_q, p.heads_q, p.head_dim);
    exchange.send("k", args.k, p.seq_kv, p.heads_kv, p.head_dim);
    exchange.send("v", args.v, p.seq_kv, p.heads_kv, p.value_dim);
    exchange.send("d_o", args.d_o, p.seq_q, p.heads_q, p.value_dim);
    exchange.send_bias(args.tables);
    exchange.expect("d_q", args.d_q, p.seq_q, p.heads_q, p.head_dim);
    exchange.expect("d_k", args.d_k, p.seq_kv, p.heads_kv, p.head_dim);
    exchange.expect("d_v", args.d_v, p.seq_kv, p.heads_kv, p.value_dim);
    exchange.run("backward");
  }

  std::optional<double> timed_elsewhere_s(int64_t calls, bool cold) const override {
    return process_->ask({{"op", "time"}, {"calls", calls}, {"cold", cold}}).get<double>();
  }

 private:
  /// The tensors of one call on their way through the memory file.
  class Exchange {
   public:
    Exchange(const Flex& flex, const Problem& p)
        : process_(*flex.process_), api_(device_api(flex.info().device)), p_(p) {}

    template <class Void>
    void send(const char* name, const BasicTensor<Void>& t, int64_t seq, int64_t heads, int64_t width) {
      const Place place = add(name, t, seq, heads, width);
      api_.to_host(process_.memory(place.end()) + place.offset, t.data, place.bytes);
    }
    void expect(const char* name, const Tensor& t, int64_t seq, int64_t heads, int64_t width) {
      results_.push_back(add(name, t, seq, heads, width));
    }
    void expect_lse(float* lse) {
      const int64_t n = p_.seq_q, h = p_.heads_q;
      results_.push_back(add("lse", lse, "f32", p_.batch * h * n, {p_.batch, h, n}, {h * n, n, 1}));
    }
    void send_bias(const Tables& tables) {
      if (!p_.position.toeplitz()) return;
      std::vector<float> t5(p_.position.t5() ? static_cast<size_t>(p_.position.buckets * p_.heads_q) : 0);
      if (!t5.empty()) api_.to_host(t5.data(), tables.t5_bias, t5.size() * sizeof(float));
      const std::vector<float> bias = bias_of(p_, t5);
      const int64_t distances = p_.seq_q + p_.seq_kv - 1;
      const Place place = add("bias", nullptr, "f32", static_cast<int64_t>(bias.size()),
                              {p_.heads_q, distances}, {distances, 1});
      std::memcpy(process_.memory(place.end()) + place.offset, bias.data(), place.bytes);
    }
    void run(const char* operation) {
      command_["op"] = operation;
      process_.memory(end_);
      process_.ask(command_);
      for (const Place& place : results_)
        api_.to_device(place.data, process_.memory(end_) + place.offset, place.bytes);
    }

   private:
    struct Place {
      void* data;
      size_t offset, bytes;
      size_t end() const { return offset + bytes; }
    };

    /// As [batch, head, seq, width]; the memory holds no gaps, whatever the order of its axes.
    template <class Void>
    Place add(const char* name, const BasicTensor<Void>& t, int64_t seq, int64_t heads, int64_t width) {
      return add(name, const_cast<void*>(static_cast<const void*>(t.data)), to_text(p_.dtype),
                 p_.batch * seq * heads * width, {p_.batch, heads, seq, width},
                 {t.batch_stride, t.head_stride, t.seq_stride, 1});
    }
    Place add(const char* name, void* data, const std::string& type, int64_t elements,
              const std::vector<int64_t>& shape, const std::vector<int64_t>& strides) {
      const Place place{data, end_, static_cast<size_t>(elements) * (type == "f32" ? 4 : 2)};
      command_[name] = {{"type", type},
                        {"elements", elements},
                        {"offset", place.offset},
                        {"shape", shape},
                        {"strides", strides}};
      end_ = (place.end() + Workspace::kAlignment - 1) / Workspace::kAlignment * Workspace::kAlignment;
      return place;
    }

    FlexProcess& process_;
    DeviceApi& api_;
    const Problem& p_;
    json command_;
    std::vector<Place> results_;
    size_t end_ = 0;
  };

  mutable std::once_flag started_;
  mutable std::unique_ptr<FlexProcess> process_;
};

ATTN_REGISTER(std::make_unique<Flex>(Device::cpu));
#ifdef ATTN_FLEX_CUDA
ATTN_REGISTER(std::make_unique<Flex>(Device::cuda));
#endif

}  // namespace
}  // namespace attn
