// Attention by plain loops, correct for Mutation::none. Time O(h n^2 d), memory O(n).

#include "harness/oracle/control_kernel.h"

#include <algorithm>
#include <limits>

#include "harness/oracle/control_gradients.h"

namespace attn {
namespace {

using M = Mutation;

/// Errors in what is written rather than in what is computed.
void spoil(const Problem& p, Mutation m, const FloatTensor& v, FloatTensor& o) {
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < p.seq_q; ++i) {
      if (m == M::last_heads_swapped && p.heads_q > 1) {
        std::swap_ranges(o.row(b, i, p.heads_q - 1), o.row(b, i, p.heads_q - 1) + p.value_dim,
                         o.row(b, i, p.heads_q - 2));
      }
      for (int64_t h = 0; h < p.heads_q; ++h) {
        if (m == M::all_zeros || m == M::mean_of_values) std::fill_n(o.row(b, i, h), p.value_dim, 0.0f);
        for (int64_t j = 0; j < p.seq_kv && m == M::mean_of_values; ++j) {
          const float* from = v.row(b, j, h / p.group());
          for (int64_t c = 0; c < p.value_dim; ++c)
            o.row(b, i, h)[c] += from[c] / static_cast<float>(p.seq_kv);
        }
      }
    }
  }
  float* middle = o.row(0, p.seq_q / 2, p.heads_q - 1);
  if (m == M::stale_last_row && p.seq_q > 1)
    std::copy_n(o.row(0, p.seq_q - 2, 0), p.value_dim, o.row(0, p.seq_q - 1, 0));
  if (m == M::one_nan) middle[p.value_dim / 2] = std::numeric_limits<float>::quiet_NaN();
  if (m == M::one_zero) middle[p.value_dim / 2] = 0;
  if (m == M::garbage_row_1e_3) std::for_each(middle, middle + p.value_dim, [](float& x) { x += 1e-3f; });
}

class Control final : public Variant {
 public:
  explicit Control(Mutation mutation)
      : Variant({.name = "control/" + to_text(mutation), .family = "control"}), mutation_(mutation) {}

  Support supports(const Problem&) const override { return {}; }
  void plan(const Context&, const Problem&, Workspace&) const override {}
  Cost cost(const Problem&) const override { return {}; }

  void forward(const Context&, const Problem& p, const Forward& args, Workspace&) const override {
    const ControlOperands operands(p, mutation_, args.q, args.k, args.v);
    ControlForward kernel(p, mutation_, operands, args.tables);
    FloatTensor o(p.batch, p.seq_q, p.heads_q, p.value_dim);
    for (int64_t b = 0; b < p.batch; ++b) {
      for (int64_t h = 0; h < p.heads_q; ++h) {
        for (int64_t i = 0; i < p.seq_q; ++i) {
          if (mutation_ == M::stale_accumulator && i > 0)
            std::copy_n(o.row(b, i - 1, h), p.value_dim, o.row(b, i, h));
          args.lse[(b * p.heads_q + h) * p.seq_q + i] = kernel.row(b, h, i, o.row(b, i, h));
        }
      }
    }
    spoil(p, mutation_, operands.v, o);
    o.write(p.dtype, args.o);
  }
  void backward(const Context&, const Problem& p, const Backward& args, Workspace&) const override {
    const ControlOperands operands(p, mutation_, args.q, args.k, args.v);
    control_backward(ControlForward(p, mutation_, operands, args.tables), args);
  }

 private:
  Mutation mutation_;
};

}  // namespace

std::unique_ptr<Variant> make_control(Mutation mutation) { return std::make_unique<Control>(mutation); }

}  // namespace attn
