#pragma once
// Intervals without an assumption about the distribution of times, and Student's t for the fits.

#include <cstdint>
#include <limits>
#include <vector>

namespace attn {

struct Interval {
  double low = std::numeric_limits<double>::quiet_NaN();
  double high = std::numeric_limits<double>::quiet_NaN();

  bool known() const { return low == low && high == high; }
  bool contains(double value) const { return low <= value && value <= high; }
};

/// Mean of the two middle samples where their number is even; NaN where there is none.
double median(std::vector<double> samples);

/// Rank r >= 1 such that the r-th smallest and the r-th largest of `count` independent samples enclose the
/// median with at least this confidence, whatever the distribution: 1 - 2 P(Binomial(count, 1/2) < r) >=
/// confidence, exact. 0 where even the extremes do not: 95 % needs 6 samples, 99 % needs 8 (Hoefler and Belli
/// 2015, section 3.1.3, give the normal approximation of these ranks).
int64_t median_rank(int64_t count, double confidence = 0.95);

/// The interval of the median by order statistics. Both ends are NaN where there are too few samples
/// (median_rank).
Interval median_interval(std::vector<double> samples, double confidence = 0.95);

/// The value that Student's t with `degrees` >= 1 degrees of freedom stays below with this probability, 0 < p
/// < 1. Bisection of the exact series for whole degrees (Abramowitz and Stegun 26.7.3 and 26.7.4).
double student_t_quantile(double probability, int64_t degrees);

/// P(t > value) for Student's t with `degrees` >= 1 degrees of freedom.
double student_t_upper(double value, int64_t degrees);

/// The p-quantile of the samples, linear between order statistics; NaN where there is none.
double quantile(std::vector<double> samples, double p);

}  // namespace attn
