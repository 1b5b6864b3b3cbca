#pragma once
// One key/value head of one batch entry with the query heads that read it, in float64 and ready for inner
// loops: rotated, with the magnitudes that the bound needs.

#include <vector>

#include "harness/oracle/bound.h"
#include "harness/run/inputs.h"

namespace attn {

/// [rows, width]: values, and what stands for their absolute values in condition sums (empty: these
/// themselves).
struct Rows {
  int64_t width = 0;
  std::vector<double> value;
  std::vector<double> magnitude;

  bool empty() const { return value.empty(); }
  const double* at(int64_t row) const { return value.data() + row * width; }
  const double* magnitude_at(int64_t row) const { return magnitude.data() + row * width; }
  void write_magnitudes();  ///< absolute values, to be replaced
};

/// A scalar product and the sum of its absolute terms. Both factors have magnitudes, or neither.
struct Product {
  double value = 0;
  double magnitude = 0;
};
Product product(const Rows& a, int64_t i, const Rows& b, int64_t j);
inline Product operator+(Product a, Product b) { return {a.value + b.value, a.magnitude + b.magnitude}; }

/// sum += factor * row, magnitude += weight * |row|.
void add_row(double factor, double weight, const Rows& rows, int64_t row, double* sum, double* magnitude);

/// What the backward needs of one query row.
struct RowFacts {
  double lse;
  Condition condition;
  Product delta;  ///< D_i = sum_j P_ij dP_ij
};

struct QueryHead {
  int64_t head;
  Rows q;
  Rows d_o;
  std::vector<double> bias;     ///< by j - i + seq_q - 1; empty: none
  std::vector<RowFacts> facts;  ///< [seq_q], backward
};

/// Where the operands come from: the float32 inputs themselves, or float64 projections (block scope), whose
/// `magnitudes` then replace absolute values.
template <class Real>
struct CoreOperands {
  const Inputs<Real>& values;
  const Inputs<double>* magnitudes = nullptr;
};

class Unit {
 public:
  /// `problem` has scope = core and outlives the unit.
  template <class Real>
  Unit(const Problem& problem, const CoreOperands<Real>& operands, int64_t batch_entry, int64_t head_kv);

  struct Score {
    double capped;  ///< after the softcap, before the bias
    double bias;
    double magnitude;  ///< tau sum |q k| + |bias|
    double slope;      ///< derivative of the softcap
  };
  Score score(const QueryHead& head, int64_t i, int64_t j) const;
  /// tau sqrt(sum (q k)^2), of products with the key alone.
  double spread(const QueryHead& head, int64_t i, int64_t j) const;
  /// dP_ij.
  Product d_weight(const QueryHead& head, int64_t i, int64_t j) const;
  bool visible(int64_t i, int64_t j) const { return rule.allows(b, i, j); }
  int64_t shaw_row(int64_t i, int64_t j) const { return shaw_index(p.position.clip, j - i - p.offset()); }
  int64_t t5_bucket(int64_t i, int64_t j) const { return buckets[static_cast<size_t>(j - i + p.seq_q - 1)]; }
  /// Rotates a gradient of a rotated row back, in place.
  void rotate_back(double* value, double* magnitude, int64_t position) const;
  int64_t o_row(const QueryHead& head, int64_t i) const { return (b * p.seq_q + i) * p.heads_q + head.head; }
  int64_t lse_row(const QueryHead& head, int64_t i) const {
    return (b * p.heads_q + head.head) * p.seq_q + i;
  }
  int64_t kv_row(int64_t j) const { return (b * p.seq_kv + j) * p.heads_kv + g; }

  const Problem& p;
  MaskRule rule;
  int64_t b;
  int64_t g;
  double tau;
  Rows k, v;
  Rows shaw_key, shaw_value;
  std::vector<int64_t> buckets;  ///< by j - i + seq_q - 1
  std::vector<QueryHead> heads;

 private:
  template <class Real>
  void add_query_head(const CoreOperands<Real>& operands, int64_t head);
  void rotate(Rows& rows, int64_t first_position) const;
};

}  // namespace attn
