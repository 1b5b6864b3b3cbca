#pragma once
// Host tensors of a problem: contiguous, [batch, seq, head, width] and the tables' own layouts
// (harness/variant.h).

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "harness/problem/problem.h"

namespace attn {

/// Everything that goes in; what the problem does not have is empty.
template <class Real>
struct Inputs {
  std::vector<Real> q, k, v;
  std::vector<Real> d_o;                            ///< pass = bwd
  std::vector<Real> shaw_key, shaw_value, t5_bias;  ///< position
  std::vector<Real> x;           ///< scope = block: [batch, seq, model]; q, k, v are empty then
  std::vector<Real> wq, wk, wv;  ///< [model, heads * width]
  std::vector<Real> wo;          ///< [heads_q * value_dim, model]
};

/// Everything that comes out; empty where the pass has none of it. scope = block: o is [batch, seq, model].
template <class Real>
struct Outputs {
  std::vector<Real> o;
  std::vector<Real> lse;  ///< [batch, heads_q, seq_q]
  std::vector<Real> d_q, d_k, d_v;
  std::vector<Real> d_shaw_key, d_shaw_value, d_t5_bias;
};
/// Of every tensor: unlike ==, tells zeros of different sign apart and takes equal NaNs for equal.
bool same_bits(const Outputs<float>& a, const Outputs<float>& b);

/// Distributions of q, k and v. A checker is as good as its inputs: each fill catches errors that others
/// miss.
enum class Fill {
  normal,    ///< N(0, 1)
  uniform,   ///< U[0, 1)
  flat,      ///< N(0, 0.02): nearly uniform weights
  peaked,    ///< N(0, 1) with q times 8
  integers,  ///< uniform in -2..2: ties, exact scores
  ones,      ///< all ones
  overflow,  ///< scores around +-90, where exp overflows without the maximum subtracted
  late_max,  ///< the largest score comes after half of the keys
};

const std::vector<Fill>& all_fills();
std::string to_text(Fill fill);
Fill parse_fill(std::string_view text);  ///< throws UsageError

/// Pure function of its arguments, whatever the number of threads; values are rounded to the problem's dtype
/// (tables stay float32).
Inputs<float> make_inputs(const Problem& problem, Fill fill, uint64_t seed);
Inputs<double> to_double(const Inputs<float>& inputs);

}  // namespace attn
