#pragma once
// What is computed: shape, mask, position, scale, softcap, dtype, scope and pass. An algorithm is a Variant.
//
//   S_ij = tau q_i.k_j (+ Shaw key term); S = c tanh(S / c); S += bias(head, i, j); masked entries become
//   -inf; P = softmax(S); O = P V (+ Shaw value term); LSE_i = ln sum_j exp(S_ij), natural logarithm.
// A row without visible keys has O = 0, LSE = -inf and no gradient. Masked keys may hold NaN: it reaches
// nothing. Query head a reads key/value head a / (heads_q / heads_kv).

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "harness/problem/dtype.h"
#include "harness/problem/mask.h"
#include "harness/problem/position.h"

namespace attn {

enum class Pass { fwd, bwd };
enum class Scope { core, block };

struct Problem {
  int64_t batch = 1;
  int64_t heads_q = 8;
  int64_t heads_kv = 8;
  int64_t seq_q = 1024;
  int64_t seq_kv = 1024;
  int64_t head_dim = 64;
  int64_t value_dim = 64;
  Dtype dtype = Dtype::f32;
  Pass pass = Pass::fwd;
  Scope scope = Scope::core;
  /// Width of x and of the block's output; 0 means heads_q * head_dim. Only with scope = block.
  int64_t model_dim = 0;
  Mask mask;
  Position position;
  std::optional<double> scale;  ///< tau; default 1 / sqrt(head_dim)
  double softcap = 0;           ///< c; 0: none

  /// Reads the canonical text,
  /// `b=1,hq=8,hk=8,nq=1024,nk=1024,d=64,dv=64,dtype=f32,pass=fwd,mask=causal,pos=alibi` and optionally
  /// `scope=block,dm=512,scale=1,softcap=30`. Fields may come in any order; a missing hk, nk or dv equals hq,
  /// nq or d, any other missing field has the default above. Throws UsageError; the result is valid.
  static Problem parse(std::string_view text);
  /// The canonical text; parse(text()) is the same problem.
  std::string text() const;
  /// Throws UsageError for contradictory or out-of-range fields.
  void validate() const;

  int64_t offset() const { return seq_kv - seq_q; }
  int64_t group() const { return heads_q / heads_kv; }
  int64_t model_width() const { return model_dim ? model_dim : heads_q * head_dim; }
  double softmax_scale() const;
  /// Borrows from *this.
  MaskRule mask_rule() const { return mask.rule(seq_q, seq_kv); }
  /// The same problem with another pass or scope.
  Problem with(Pass other) const;
  Problem with(Scope other) const;
};

/// Allowed (query, key) pairs, summed over the batch, for one head.
int64_t visible_pairs(const Problem& problem);
/// visible_pairs / (batch * seq_q * seq_kv).
double density(const Problem& problem);

}  // namespace attn
