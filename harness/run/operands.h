#pragma once
// The tensors a problem consists of: name, shape and size, in one list for binding, memory accounting and
// eval.

#include <string>
#include <vector>

#include "harness/run/inputs.h"

namespace attn {

/// One tensor [batch, seq, heads, width]; tables and weights use batch = heads = 1, LSE is [1, batch*heads_q,
/// 1, seq_q].
struct Operand {
  const char* name;
  int64_t batch, seq, heads, width;
  bool wide;                                   ///< float32 whatever the problem's dtype: tables and LSE
  std::vector<float> Inputs<float>::*input;    ///< null for outputs
  std::vector<float> Outputs<float>::*output;  ///< null for inputs

  int64_t elements() const { return batch * seq * heads * width; }
  size_t bytes(Dtype dtype) const {
    return static_cast<size_t>(elements()) * bytes_of(wide ? Dtype::f32 : dtype);
  }
};

std::vector<Operand> input_operands(const Problem& problem);
/// o and lse.
std::vector<Operand> forward_results(const Problem& problem);
/// Gradients of q, k, v and of the position's tables.
std::vector<Operand> gradients(const Problem& problem);
/// Inputs, results and, for a backward, gradients.
size_t operand_bytes(const Problem& problem);

}  // namespace attn
