#include <algorithm>
#include <stdexcept>
#include <utility>

#include "harness/oracle/core.h"

#ifdef __FAST_MATH__
#error "the oracle must not be built with -ffast-math: its test for NaN would disappear"
#endif

namespace attn {
namespace {

KnownTensor blank(const char* name, std::vector<float> Outputs<float>::*found,
                  std::vector<double> Outputs<double>::*exact, int64_t batch, int64_t seq, int64_t heads,
                  int64_t width) {
  return {name, found, exact, batch, seq, heads, width, {}, {}, {}};
}

void know(KnownTensor& tensor, std::vector<int64_t> rows) {
  std::sort(rows.begin(), rows.end());
  tensor.rows = std::move(rows);
  tensor.value.assign(tensor.rows.size() * static_cast<size_t>(tensor.width), 0);
  tensor.bound = tensor.value;
}

std::vector<int64_t> query_rows(const Problem& p, const Sample& sample, int64_t heads) {
  std::vector<int64_t> rows;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i : sample.rows[static_cast<size_t>(b)]) {
      for (int64_t h = 0; h < heads; ++h) rows.push_back((b * p.seq_q + i) * heads + h);
    }
  }
  return rows;
}

std::vector<int64_t> lse_rows(const Problem& p, const Sample& sample) {
  std::vector<int64_t> rows;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i : sample.rows[static_cast<size_t>(b)]) {
      for (int64_t h = 0; h < p.heads_q; ++h) rows.push_back((b * p.heads_q + h) * p.seq_q + i);
    }
  }
  return rows;
}

std::vector<int64_t> key_rows(const Problem& p, const Sample& sample) {
  std::vector<int64_t> rows;
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t g = 0; g < p.heads_kv; ++g) {
      for (int64_t j : sample.columns[static_cast<size_t>(b * p.heads_kv + g)]) {
        rows.push_back((b * p.seq_kv + j) * p.heads_kv + g);
      }
    }
  }
  return rows;
}

std::vector<int64_t> table_rows(const Sample& sample, int64_t count) {
  std::vector<int64_t> rows;
  for (int64_t row = 0; sample.complete && row < count; ++row) rows.push_back(row);
  return rows;
}

void add_gradients(const Problem& p, const Sample& sample, std::vector<KnownTensor>& tensors) {
  using F = Outputs<float>;
  using D = Outputs<double>;
  tensors.push_back(blank("d_q", &F::d_q, &D::d_q, p.batch, p.seq_q, p.heads_q, p.head_dim));
  know(tensors.back(), query_rows(p, sample, p.heads_q));
  tensors.push_back(blank("d_k", &F::d_k, &D::d_k, p.batch, p.seq_kv, p.heads_kv, p.head_dim));
  know(tensors.back(), key_rows(p, sample));
  tensors.push_back(blank("d_v", &F::d_v, &D::d_v, p.batch, p.seq_kv, p.heads_kv, p.value_dim));
  know(tensors.back(), key_rows(p, sample));
  const auto add_table = [&](const char* name, auto found, auto exact, int64_t rows, int64_t width) {
    tensors.push_back(blank(name, found, exact, 1, rows, 1, width));
    know(tensors.back(), table_rows(sample, rows));
  };
  const Position& position = p.position;
  if (position.shaw())
    add_table("d_shaw_key", &F::d_shaw_key, &D::d_shaw_key, position.shaw_rows(), p.head_dim);
  if (position.shaw_values()) {
    add_table("d_shaw_value", &F::d_shaw_value, &D::d_shaw_value, position.shaw_rows(), p.value_dim);
  }
  if (position.t5()) add_table("d_t5_bias", &F::d_t5_bias, &D::d_t5_bias, position.buckets, p.heads_q);
}

}  // namespace

int64_t KnownTensor::find(int64_t row) const {
  const auto place = std::lower_bound(rows.begin(), rows.end(), row);
  return place != rows.end() && *place == row ? place - rows.begin() : -1;
}

double* KnownTensor::value_of(int64_t row) { return value.data() + find(row) * width; }
double* KnownTensor::bound_of(int64_t row) { return bound.data() + find(row) * width; }

bool Truth::complete() const {
  return std::all_of(tensors.begin(), tensors.end(), [](const KnownTensor& t) { return t.complete(); });
}

const KnownTensor* Truth::tensor(const std::string& name) const {
  for (const KnownTensor& t : tensors) {
    if (t.name == name) return &t;
  }
  return nullptr;
}

KnownTensor* Truth::tensor(const std::string& name) {
  return const_cast<KnownTensor*>(std::as_const(*this).tensor(name));
}

Truth empty_truth(const Problem& p, const Sample& sample) {
  using F = Outputs<float>;
  using D = Outputs<double>;
  Truth truth;
  const bool block = p.scope == Scope::block;
  const int64_t heads = block ? 1 : p.heads_q, width = block ? p.model_width() : p.value_dim;
  truth.tensors.push_back(blank("o", &F::o, &D::o, p.batch, p.seq_q, heads, width));
  know(truth.tensors.back(), query_rows(p, sample, heads));
  truth.tensors.push_back(blank("lse", &F::lse, &D::lse, p.batch, p.heads_q, p.seq_q, 1));
  know(truth.tensors.back(), lse_rows(p, sample));
  if (p.pass == Pass::bwd) add_gradients(p, sample, truth.tensors);
  return truth;
}

Truth make_truth(const Problem& p, const Inputs<double>& inputs, const TruthOptions& options) {
  const Sample sample = draw_sample(p, options);
  if (p.scope == Scope::core) {
    return solve_core<double>(p, {inputs}, {.operands = options.operand_rounding}, sample, options.threads);
  }
  if (p.pass == Pass::bwd) throw std::logic_error("the oracle has no backward of a block");
  return solve_block(p, inputs, options.operand_rounding, sample, options.threads);
}

Truth make_truth(const Problem& p, const Inputs<float>& inputs, const TruthOptions& options) {
  if (p.scope == Scope::block) return make_truth(p, to_double(inputs), options);
  return solve_core<float>(p, {inputs}, {.operands = options.operand_rounding}, draw_sample(p, options),
                           options.threads);
}

Outputs<double> solve(const Problem& p, const Inputs<double>& inputs, int threads) {
  Truth truth = make_truth(p, inputs, {.threads = threads, .max_pairs = int64_t{1} << 60});
  Outputs<double> outputs;
  for (KnownTensor& tensor : truth.tensors) outputs.*tensor.exact = std::move(tensor.value);
  return outputs;
}

}  // namespace attn
