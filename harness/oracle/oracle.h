#pragma once
// The truth: attention and its gradients in float64 by plain loops over the visible pairs, independent of
// every variant, with the largest error each element may have (bound.h). Masked keys are never read, so
// nothing they hold can reach a result. Long problems are solved on a sample of rows and columns; the truth
// remembers which.

#include <cstdint>
#include <string>
#include <vector>

#include "harness/problem/operand_rounding.h"
#include "harness/run/inputs.h"

namespace attn {

struct TruthOptions {
  int threads = 1;
  /// Work limit in (query, key, head) triples, about 25 million a second and thread; a backward counts three
  /// times. Problems beyond it are sampled.
  int64_t max_pairs = 12'000'000;
  uint64_t seed = 0;                 ///< of the sample
  OperandRounding operand_rounding;  ///< of the variant to be judged
};

/// What is known of one result.
struct KnownTensor {
  std::string name;
  std::vector<float> Outputs<float>::*found;
  std::vector<double> Outputs<double>::*exact;
  int64_t batch, seq, heads, width;  ///< shape; LSE is [batch, heads, seq] with width 1
  std::vector<int64_t> rows;         ///< known rows of the contiguous tensor, ascending
  std::vector<double> value;         ///< [rows, width]
  std::vector<double> bound;         ///< [rows, width], the largest accepted error

  bool complete() const { return static_cast<int64_t>(rows.size()) == batch * seq * heads; }
  /// Place of a row in `rows`, or -1.
  int64_t find(int64_t row) const;
  double* value_of(int64_t row);  ///< the row must be known
  double* bound_of(int64_t row);
};

struct Truth {
  std::vector<KnownTensor> tensors;

  bool complete() const;
  KnownTensor* tensor(const std::string& name);  ///< null where the problem has no such result
  const KnownTensor* tensor(const std::string& name) const;
};

Truth make_truth(const Problem& problem, const Inputs<float>& inputs, const TruthOptions& options);
Truth make_truth(const Problem& problem, const Inputs<double>& inputs, const TruthOptions& options);
/// Every result, whatever it costs.
Outputs<double> solve(const Problem& problem, const Inputs<double>& inputs, int threads);

struct Verdict {
  bool ok = false;
  double rel_l2 = 0;   ///< largest over the results: o and lse, or the gradients
  double max_abs = 0;  ///< largest error
  double worst = 0;    ///< largest error / bound
  std::string reason;  ///< of a failure: result, element, found and expected
};

/// Known elements against their bounds; every element must be a number (LSE: or -inf). Exact zeros must be
/// exact. An empty LSE is one that the variant does not give.
Verdict compare(const Problem& problem, const Truth& truth, const Outputs<float>& outputs);

}  // namespace attn
