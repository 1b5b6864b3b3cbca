#pragma once
// How far a correct float32 (or 16-bit) computation may be from the float64 truth, element by element.
//
// Forward. One row of P is exp(S - max) / sum. A rounding error dS of a score changes P by a factor e^dS, and
// the maximum and the sum carry the same kind of error, so P is wrong by at most about 2 |dS| + (error of the
// sum). A dot product over d channels rounds d times, each by at most eps/2 of its magnitude tau sum_c |q_c
// k_c| (+ Shaw key term); the roundings are independent to first order, so |dS| rarely exceeds lambda
// eps/2 sqrt(d) times it (Higham and Mary 2019); lambda = 3, five standard deviations, because a check looks
// at millions of scores: with 2, 3 of 28000 correct runs were false alarms. Adding a bias rounds by
// |bias|. S is the largest of tau sum_c |q_c k_c| + |bias| over the visible keys of the row. Adding up n
// products p_j v_j rounds n times. Hence, with eps the distance from 1 to the next float32 number,
//
//   |o - truth| <= eps (8 + s S + n/4) M,     s = max(4, 1.5 sqrt d),  M = sum_j (p_j + floor) |v_j|  (+ Shaw
//   value term) |lse - truth| <= eps (8 + s S + n/4) + eps |lse|
//
// With s = 4 for every d a plain loop that adds the channels in order exceeds the bound (1.15 of it at d =
// 41, where the first channel decides the score); every planted error but a 1e-6 one in exp exceeds it even
// if it is 8 times looser. `floor` lets weights underflow: float32 exp may return 0 below 2^-126.
//
// 16-bit types keep S, the maximum and the sums in float32, round P (or exp(S - max)) before the product with
// V and round O when it is stored: half an epsilon of the type each. We grant eps_t M + eps_t |o|. float16
// flushes P below 2^-24, hence its larger floor; below 2^-14 its step is 2^-24 whatever the value, so half of
// that is granted to every result.
//
// Backward. dS_ij = P_ij (dP_ij - D_i) with dP_ij = dO_i.v_j and D_i = sum_j P_ij dP_ij; its condition sum is
// A_ij = (p_ij + floor) (sum_c |dO_ic v_jc| + sum_j p_ij sum_c |dO_ic v_jc|). Every gradient is a sum of dS
// (or P) times an operand; its magnitude is that sum in absolute values: tau sum_j A_ij |k_jc| for dQ, tau
// sum_i A_ij |q_ic| for dK, sum_i (p_ij + floor) |dO_ic| for dV, and alike for the tables. P is recomputed
// from the rounded LSE and D from the rounded O, so the forward's bound is granted three times, with S and n
// the largest over what contributes and sqrt(terms) more for tables, which add over rows and heads. The
// factor of the softcap is at most 1.
//
// RoPE. A rotated channel is x cos - y sin, of magnitude |x||cos| + |y||sin| <= hypot(x, y): that number
// stands for |q_c| and |k_c| everywhere, and for the magnitudes of dQ and dK after the rotation back.
//
// Rounded operands. A forward whose products round their operands declares by how much: Q and K by at most r
// of each, P and V by at most t (OperandRounding). As a block's inputs below: scores are wrong by 2 r S, P by
// twice that, V by t, and P is itself an operand, by t: relative bound += 4 r S + 2 t. tf32 has r = t, and
// may cut off, so that all errors of a score have one direction. Rounding to nearest has none: a number is
// wrong by 0.43 r of itself in the mean square, a score by 0.6 r R, with R the largest of tau sqrt(sum_c (q_c
// k_c)^2), and five standard deviations are 3 r R: then min(4 r S, 6 r R) stands for 4 r S. Rows that are
// rotated and stored in 16 bits have r of the rotated numbers, so of |q_c| and |k_c| as RoPE defines them
// above, and t = 0: P and V are rounded no more than elsewhere. In dQ and dK they stand once more, as the
// operands of dS, which the two epsilons of the type there hold.
//
// Block. q = x W_Q is itself rounded: its error is `input_error` times |x| |W_Q|, alike for k and v.
// Roundings of a product of length D are independent to first order and grow like sqrt(D) (Higham and Mary
// 2019), so input_error = eps (2 + 2 sqrt D). With these magnitudes in place of |q|, |k|, |v| the scores are
// wrong by another 2 input_error S, P by twice that, V by input_error: relative bound += input_error (4 S +
// 1). The output projection adds |W_O| times the bound of O, and eps (2 + 2 sqrt(h dv)) |O| |W_O|.

#include <cstdint>

#include "harness/problem/dtype.h"
#include "harness/problem/operand_rounding.h"

namespace attn {

/// What one sum of the result depends on.
struct Condition {
  double largest_score = 0;   ///< S
  int64_t terms = 0;          ///< n
  double largest_spread = 0;  ///< R, where a bound asks for it
  void include(double score, int64_t count);
};

/// What is rounded beside the arithmetic, relative.
struct RoundedInputs {
  double projected = 0;      ///< input_error of a block
  OperandRounding operands;  ///< of a variant
};

class Bound {
 public:
  Bound(Dtype dtype, int64_t head_dim, const RoundedInputs& rounded);

  bool asks_for_spread() const { return rounded_.operands.to_nearest; }
  /// Added to every weight in a magnitude sum.
  double floor() const { return floor_; }
  double output(const Condition& row, double magnitude, double truth) const;
  double lse(const Condition& row, double truth) const;
  /// `terms_beyond` are further terms that a table's sum has.
  double gradient(const Condition& sum, double magnitude, double truth, double terms_beyond = 0) const;

  /// eps (2 + 2 sqrt(length)): a projection's relative error.
  static double projection(int64_t length);

 private:
  double relative(const Condition& row) const;

  double score_factor_;     ///< s
  double storage_epsilon_;  ///< 0 for float32
  double floor_;
  double smallest_;  ///< absolute error of storing what is too small for the type
  RoundedInputs rounded_;
};

}  // namespace attn
