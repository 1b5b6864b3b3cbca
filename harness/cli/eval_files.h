#pragma once
// The files of `attnbench eval`: which option stands for which operand, and the problem that their shapes
// make up.

#include <map>
#include <string>
#include <vector>

#include "harness/problem/problem.h"
#include "harness/run/operands.h"

namespace attn {

/// An option that names a file, and the operand (harness/run/operands.h) it stands for.
struct FileOption {
  const char* option;
  const char* operand;
  const char* description;
};
inline constexpr FileOption kInputs[] = {
    {"--q", "q", "Queries [batch, seq_q, heads_q, head_dim]."},
    {"--k", "k", "Keys [batch, seq_kv, heads_kv, head_dim]."},
    {"--v", "v", "Values [batch, seq_kv, heads_kv, value_dim]."},
    {"--do", "d_o", "Gradient of the output, shaped like it; makes the pass bwd."},
    {"--x", "x", "Input of a block [batch, seq, model]; makes the scope block."},
    {"--wq", "wq", "W_Q of a block [model, heads_q * head_dim]."},
    {"--wk", "wk", "W_K of a block [model, heads_kv * head_dim]."},
    {"--wv", "wv", "W_V of a block [model, heads_kv * value_dim]."},
    {"--wo", "wo", "W_O of a block [heads_q * value_dim, model]."},
};
inline constexpr FileOption kOutputs[] = {
    {"--out", "o", "Written: output [batch, seq_q, heads_q, value_dim], of a block [batch, seq, model]."},
    {"--lse", "lse", "Written: natural logarithm of the rows' sums [batch, heads_q, seq_q]."},
    {"--dq", "d_q", "Written: gradient of q (with --do)."},
    {"--dk", "d_k", "Written: gradient of k (with --do)."},
    {"--dv", "d_v", "Written: gradient of v (with --do)."},
};

using Shapes = std::map<std::string, std::vector<int64_t>>;  ///< by operand

/// "--q", "--table shaw_key", ...
std::string option_of(const std::string& operand);
/// The axes of an operand's file: tables and weights have two, x and a block's output three.
std::vector<int64_t> file_shape(const Operand& operand, const Problem& problem);
/// The problem of these input files: `text` may leave out what they decide; where it does not, both must
/// agree.
Problem problem_of(const std::string& text, const Shapes& shapes);
/// Throws UsageError unless these are the problem's operands, each with its shape.
void check_shapes(const Problem& problem, Shapes shapes);

}  // namespace attn
