#pragma once
// A forward of a CUDA variant on the host (tests/host_block.h): operands in the variant's storage and in a
// layout of choice, a workspace, and the comparison with the float64 oracle under every schedule.

#include "harness/oracle/oracle.h"
#include "harness/variant.h"
#include "tests/block_file.h"
#include "tests/catch.h"
#include "tests/host_block.h"
#include "variants/common/gpu_tensor.cuh"

namespace attn {

inline constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

/// Rows of an operand with `gap` unused elements after each; head-major or seq-major.
template <class T>
struct HostTensor {
  std::vector<T> memory;
  int64_t batch_stride, seq_stride, head_stride;

  HostTensor(int64_t batch, int64_t seq, int64_t heads, int64_t width, int64_t gap, bool head_major)
      : memory(static_cast<size_t>(batch * seq * heads * (width + gap)) + 4) {
    for (T& element : memory) set(element, kNan);
    const int64_t row = width + gap;
    batch_stride = seq * heads * row;
    seq_stride = head_major ? row : heads * row;
    head_stride = head_major ? seq * row : row;
  }
  T* data() { return memory.data(); }
  ConstTensor input() { return {data(), batch_stride, seq_stride, head_stride}; }
  Tensor output() { return {data(), batch_stride, seq_stride, head_stride}; }
  /// contiguous [batch, seq, heads, width] to or from this layout
  template <class Copy>
  void rows(int64_t batch, int64_t seq, int64_t heads, int64_t width, Copy copy) {
    for (int64_t b = 0, at = 0; b < batch; ++b) {
      for (int64_t i = 0; i < seq; ++i) {
        for (int64_t h = 0; h < heads; ++h, at += width) {
          copy(at, data() + b * batch_stride + i * seq_stride + h * head_stride);
        }
      }
    }
  }
};

struct HostLayout {
  bool head_major = false;
  int64_t gap = 0;
};

/// Device memory of the model: the workspace of a problem, poisoned.
struct HostWorkspace {
  std::vector<Float4> memory;
  Workspace granting;

  template <class Plan>
  explicit HostWorkspace(Plan plan) {
    Workspace counting;
    plan(counting);
    memory.assign(counting.capacity_needed() / sizeof(Float4) + 32, Float4{kNan, kNan, kNan, kNan});
    auto base = reinterpret_cast<uintptr_t>(memory.data());
    base = (base + Workspace::kAlignment - 1) / Workspace::kAlignment * Workspace::kAlignment;
    granting = Workspace(reinterpret_cast<std::byte*>(base), counting.capacity_needed());
  }
};

/// Runs run(arguments) on copies of the inputs in storage type T and the given layout.
template <class T, class Run>
Outputs<float> run_forward(const Problem& p, const Inputs<float>& inputs, const HostLayout& layout, Run run) {
  HostTensor<T> q(p.batch, p.seq_q, p.heads_q, p.head_dim, layout.gap, layout.head_major);
  HostTensor<T> k(p.batch, p.seq_kv, p.heads_kv, p.head_dim, layout.gap, layout.head_major);
  HostTensor<T> v(p.batch, p.seq_kv, p.heads_kv, p.value_dim, layout.gap, layout.head_major);
  HostTensor<T> o(p.batch, p.seq_q, p.heads_q, p.value_dim, layout.gap, layout.head_major);
  const auto fill = [&](HostTensor<T>& to, const std::vector<float>& from, int64_t seq, int64_t heads,
                        int64_t width) {
    to.rows(p.batch, seq, heads, width, [&](int64_t at, T* row) {
      for (int64_t c = 0; c < width; ++c) set(row[c], from[static_cast<size_t>(at + c)]);
    });
  };
  fill(q, inputs.q, p.seq_q, p.heads_q, p.head_dim);
  fill(k, inputs.k, p.seq_kv, p.heads_kv, p.head_dim);
  fill(v, inputs.v, p.seq_kv, p.heads_kv, p.value_dim);
  Outputs<float> outputs;
  outputs.lse.assign(static_cast<size_t>(p.batch * p.heads_q * p.seq_q), kNan);
  outputs.o.resize(static_cast<size_t>(p.batch * p.seq_q * p.heads_q * p.value_dim));
  const auto table = [](const std::vector<float>& values) {
    return values.empty() ? nullptr : values.data();
  };
  Forward args{q.input(), k.input(), v.input(), {}, o.output(), outputs.lse.data()};
  args.tables = {table(inputs.shaw_key), table(inputs.shaw_value), table(inputs.t5_bias)};
  run(args);
  o.rows(p.batch, p.seq_q, p.heads_q, p.value_dim, [&](int64_t at, const T* row) {
    for (int64_t c = 0; c < p.value_dim; ++c) outputs.o[static_cast<size_t>(at + c)] = to_float(row[c]);
    for (int64_t c = 0; c < layout.gap; ++c) REQUIRE(std::isnan(to_float(row[p.value_dim + c])));
  });
  return outputs;
}

inline const std::vector<HostSchedule> kSchedules = {
    {false, false}, {true, false}, {false, true}, {true, true}};

inline const std::vector<HostLayout> kLayouts = {{false, 0}, {true, 3}};

template <class Run>
void check_run(const std::string& text, Run run,
               const std::vector<Fill>& fills = {Fill::peaked, Fill::normal},
               const std::vector<HostLayout>& layouts = kLayouts) {
  const Problem p = Problem::parse(text);
  for (const Fill fill : fills) {
    const Inputs<float> inputs = make_inputs(p, fill, 7);
    const Truth truth = make_truth(p, inputs, {});
    for (const HostSchedule schedule : kSchedules) {
      for (const HostLayout layout : layouts) {
        const Verdict verdict = compare(p, truth, run(p, inputs, schedule, layout));
        INFO(text << " fill " << to_text(fill) << " descending " << schedule.descending << " late "
                  << schedule.late_copies << " gap " << layout.gap << ": " << verdict.reason);
        CHECK(verdict.ok);
      }
    }
  }
}

}  // namespace attn
