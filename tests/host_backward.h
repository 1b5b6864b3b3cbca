#pragma once
// A backward of a CUDA variant on the host, after its forward: as tests/host_forward.h, with gradients.

#include "harness/oracle/check.h"
#include "tests/host_forward.h"

namespace attn {

/// Storage of T in a layout of choice, filled from contiguous numbers and read back.
template <class T>
struct HostOperand {
  HostTensor<T> tensor;
  int64_t batch, seq, heads, width, gap;

  HostOperand(const HostLayout& layout, int64_t batch_, int64_t seq_, int64_t heads_, int64_t width_)
      : tensor(batch_, seq_, heads_, width_, layout.gap, layout.head_major),
        batch(batch_),
        seq(seq_),
        heads(heads_),
        width(width_),
        gap(layout.gap) {}

  void fill(const std::vector<float>& from) {
    tensor.rows(batch, seq, heads, width, [&](int64_t at, T* row) {
      for (int64_t c = 0; c < width; ++c) set(row[c], from[static_cast<size_t>(at + c)]);
    });
  }
  std::vector<float> read() {
    std::vector<float> values(static_cast<size_t>(batch * seq * heads * width));
    tensor.rows(batch, seq, heads, width, [&](int64_t at, const T* row) {
      for (int64_t c = 0; c < width; ++c) values[static_cast<size_t>(at + c)] = to_float(row[c]);
      for (int64_t c = 0; c < gap; ++c) REQUIRE(std::isnan(to_float(row[width + c])));
    });
    return values;
  }
};

/// Runs forward(arguments), then backward(arguments) on what it left.
template <class T, class RunForward, class RunBackward>
Outputs<float> run_backward(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout,
                            RunForward forward, RunBackward backward) {
  const auto of_queries = [&](int64_t width) {
    return HostOperand<T>(layout, p.batch, p.seq_q, p.heads_q, width);
  };
  const auto of_keys = [&](int64_t width) {
    return HostOperand<T>(layout, p.batch, p.seq_kv, p.heads_kv, width);
  };
  HostOperand<T> q = of_queries(p.head_dim), d_q = of_queries(p.head_dim), o = of_queries(p.value_dim),
                 d_o = of_queries(p.value_dim), k = of_keys(p.head_dim), d_k = of_keys(p.head_dim),
                 v = of_keys(p.value_dim), d_v = of_keys(p.value_dim);
  q.fill(inputs.q);
  k.fill(inputs.k);
  v.fill(inputs.v);
  d_o.fill(inputs.d_o);
  Outputs<float> outputs;
  outputs.lse.assign(static_cast<size_t>(p.batch * p.heads_q * p.seq_q), kNan);
  const auto table = [](const std::vector<float>& values) {
    return values.empty() ? nullptr : values.data();
  };
  const Tables tables{table(inputs.shaw_key), table(inputs.shaw_value), table(inputs.t5_bias)};
  const auto gradient = [](std::vector<float>& values, const std::vector<float>& of) {
    values.assign(of.size(), kNan);
    return values.empty() ? nullptr : values.data();
  };
  forward(
      {q.tensor.input(), k.tensor.input(), v.tensor.input(), tables, o.tensor.output(), outputs.lse.data()});
  Backward args{q.tensor.input(),
                k.tensor.input(),
                v.tensor.input(),
                o.tensor.input(),
                d_o.tensor.input(),
                outputs.lse.data(),
                tables};
  args.d_q = d_q.tensor.output();
  args.d_k = d_k.tensor.output();
  args.d_v = d_v.tensor.output();
  args.d_tables = {gradient(outputs.d_shaw_key, inputs.shaw_key),
                   gradient(outputs.d_shaw_value, inputs.shaw_value),
                   gradient(outputs.d_t5_bias, inputs.t5_bias)};
  backward(args);
  outputs.o = o.read();
  outputs.d_q = d_q.read();
  outputs.d_k = d_k.read();
  outputs.d_v = d_v.read();
  return outputs;
}

/// As check_run(), on inputs with NaN and infinity where nothing may look, and bitwise alike in every
/// schedule and layout.
template <class Run>
void check_backward(const std::string& text, Run run, const std::vector<Fill>& fills = {Fill::peaked},
                    const std::vector<HostLayout>& layouts = kLayouts) {
  const Problem p = Problem::parse(text + ",pass=bwd");
  for (const Fill fill : fills) {
    const Inputs<float> inputs = make_checked_inputs(p, fill, 7);
    const Truth truth = make_truth(p, inputs, {});
    std::vector<Outputs<float>> seen;
    for (const HostSchedule schedule : kSchedules) {
      for (const HostLayout layout : layouts) {
        const Outputs<float> outputs = run(p, inputs, schedule, layout);
        const Verdict verdict = compare(p, truth, outputs);
        INFO(text << " fill " << to_text(fill) << " descending " << schedule.descending << " late "
                  << schedule.late_copies << " gap " << layout.gap << ": " << verdict.reason);
        CHECK(verdict.ok);
        if (!seen.empty()) CHECK(same_bits(outputs, seen.front()));
        if (seen.empty()) seen.push_back(outputs);
      }
    }
  }
}

}  // namespace attn
