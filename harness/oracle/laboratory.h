#pragma once
// What the properties share: run a variant, know how exact its results must be, compare results of two runs.

#include <functional>
#include <string>

#include "harness/oracle/oracle.h"
#include "harness/run/launch.h"
#include "harness/variant.h"

namespace attn {

/// Thrown where the variant refuses the problem.
struct Unsupported {};
/// Thrown where a relation does not hold.
struct Broken {
  std::string what;
};

/// Results of one run with the accepted error of every element, zero values included.
struct Measured {
  Problem problem;
  Outputs<float> out;
  Truth truth;

  const std::vector<double>& bound(const char* name) const { return truth.tensor(name)->bound; }
};

class Laboratory {
 public:
  Laboratory(const Variant& variant, uint64_t seed, int threads, LaunchMode launch = LaunchMode::stream)
      : variant_(variant), seed_(seed), threads_(threads), launch_(launch) {}

  /// Inputs rounded to multiples of 2^-6, so that sums and small multiples of them are exact.
  Inputs<float> inputs(const Problem& problem, uint64_t salt = 0) const;
  Measured run(const Problem& problem, const Inputs<float>& inputs) const;
  /// NaN behind the mask must not reach the result.
  bool hides_nan() const { return variant_.info().hides_nan; }

 private:
  const Variant& variant_;
  uint64_t seed_;
  int threads_;
  LaunchMode launch_;
};

/// |found - expected| <= accepted, else Broken.
void expect_near(const char* what, int64_t element, double found, double expected, double accepted);
/// Element e of `a` against element map(e) of `b` (or none where negative) times `factor`.
using ElementMap = std::function<int64_t(int64_t)>;
inline int64_t same_element(int64_t e) { return e; }
void expect_same(const char* what, const std::vector<float>& a, const std::vector<double>& bound_a,
                 const std::vector<float>& b, const std::vector<double>& bound_b, const ElementMap& map,
                 double factor = 1);
/// o and lse of two runs of equal shape.
void expect_same_forward(const Measured& a, const Measured& b);

/// Rows of [batch, seq, heads, width] gathered along seq: row i of the result is row order[i].
std::vector<float> gather_rows(const std::vector<float>& tensor, int64_t batch, int64_t seq, int64_t heads,
                               int64_t width, const std::vector<int64_t>& order);

}  // namespace attn
