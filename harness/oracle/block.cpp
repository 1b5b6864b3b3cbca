// Block scope of the truth: float64 projections by Eigen around the core, with the magnitudes |x| |W| beside
// them.

#include <Eigen/Core>
#include <algorithm>

#include "harness/oracle/core.h"

namespace attn {
namespace {

using Matrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using View = Eigen::Map<const Matrix>;

View view(const std::vector<double>& values, int64_t columns) {
  return {values.data(), static_cast<int64_t>(values.size()) / columns, columns};
}

std::vector<double> flatten(const Matrix& matrix) { return {matrix.data(), matrix.data() + matrix.size()}; }

/// x W and |x| |W|, rows shared out among threads.
void project(const std::vector<double>& x, const std::vector<double>& weights, int64_t model, int64_t width,
             int threads, std::vector<double>& value, std::vector<double>& magnitude) {
  constexpr int64_t kRows = 64;
  const auto left = view(x, model), right = view(weights, width);
  const Matrix absolute = right.cwiseAbs();
  value.resize(static_cast<size_t>(left.rows() * width));
  magnitude.resize(value.size());
#pragma omp parallel for num_threads(threads) schedule(dynamic)
  for (int64_t begin = 0; begin < left.rows(); begin += kRows) {
    const int64_t rows = std::min(kRows, left.rows() - begin);
    Eigen::Map<Matrix>(value.data() + begin * width, rows, width) = left.middleRows(begin, rows) * right;
    Eigen::Map<Matrix>(magnitude.data() + begin * width, rows, width) =
        left.middleRows(begin, rows).cwiseAbs() * absolute;
  }
}

/// y = o W_O for the known rows, from the core's o and its bounds.
void project_output(const Problem& p, const KnownTensor& o, const std::vector<double>& weights,
                    KnownTensor& y) {
  const int64_t joined = p.heads_q * p.value_dim;  // a known row of y is heads_q known rows of o in sequence
  const auto w = view(weights, p.model_width()), values = view(o.value, joined),
             bounds = view(o.bound, joined);
  const Matrix absolute = w.cwiseAbs();
  y.value = flatten(values * w);
  y.bound = flatten(bounds * absolute + Bound::projection(joined) * (values.cwiseAbs() * absolute));
}

}  // namespace

Truth solve_block(const Problem& p, const Inputs<double>& inputs, const OperandRounding& operand_rounding,
                  const Sample& sample, int threads) {
  const int64_t model = p.model_width();
  Inputs<double> core, magnitudes;
  core.shaw_key = inputs.shaw_key;
  core.shaw_value = inputs.shaw_value;
  core.t5_bias = inputs.t5_bias;
  project(inputs.x, inputs.wq, model, p.heads_q * p.head_dim, threads, core.q, magnitudes.q);
  project(inputs.x, inputs.wk, model, p.heads_kv * p.head_dim, threads, core.k, magnitudes.k);
  project(inputs.x, inputs.wv, model, p.heads_kv * p.value_dim, threads, core.v, magnitudes.v);
  const RoundedInputs rounded{Bound::projection(model), operand_rounding};
  const Truth inner = solve_core<double>(p.with(Scope::core), {core, &magnitudes}, rounded, sample, threads);
  Truth truth = empty_truth(p, sample);
  project_output(p, *inner.tensor("o"), inputs.wo, *truth.tensor("o"));
  truth.tensor("lse")->value = inner.tensor("lse")->value;
  truth.tensor("lse")->bound = inner.tensor("lse")->bound;
  return truth;
}

}  // namespace attn
