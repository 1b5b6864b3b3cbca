#pragma once
// The exponent of y against x > 0, y > 0: a plain power y = c x^b, or a power beside a fixed cost, y = a + c
// x^b.
//
// The power is the least-squares line through (ln x, ln y). The offset model minimises the squares of the
// relative errors (a + c x^b) / y - 1: for a given b that is linear least squares in a and c, with a >= 0,
// and b is found along that profile. The interval of b is where the profile stays below rss_min (1 + t^2 / (k
// - p)), t the 95 % quantile of Student's t with k - p degrees of freedom, k points and p parameters; for the
// line this is b +- t SE. The models are compared by the corrected Akaike criterion on residuals of ln y
// (Burnham and Anderson 2002, 2.4).

#include <cstddef>
#include <vector>

#include "harness/analysis/interval.h"

namespace attn {

struct PowerFit {
  double offset = 0;        ///< a
  double coefficient = 0;   ///< c
  double exponent = 0;      ///< b
  Interval exponent_ci;     ///< 95 % from the profile; unknown where k <= p
  double residual_rms = 0;  ///< of ln y
  bool has_offset = false;

  double at(double x) const;
};

/// At least two points with different x.
PowerFit fit_power(const std::vector<double>& x, const std::vector<double>& y);

/// The best a >= 0 and c >= 0 of y = a + c g: least squares of the relative errors (a + c g) / y - 1.
struct OffsetLine {
  double offset = 0, slope = 0;
  double rss = 0;  ///< of the relative errors
};
OffsetLine fit_offset_line(const std::vector<double>& g, const std::vector<double>& y);

/// At least three points. Exponents between kLowestExponent and kHighestExponent are tried.
PowerFit fit_offset_power(const std::vector<double>& x, const std::vector<double>& y);
inline constexpr double kLowestExponent = 0.05;
inline constexpr double kHighestExponent = 6;

/// Adds the interval of the profile to an offset fit of the same points.
void add_profile_interval(PowerFit& fit, const std::vector<double>& x, const std::vector<double>& y,
                          double confidence = 0.95);

/// Akaike's criterion, corrected for few points, of a fit with this many parameters beside the variance.
/// Infinite where points <= parameters + 2: an offset can be justified from six points on.
double akaike_corrected(double residual_rms, size_t points, int parameters);

}  // namespace attn
