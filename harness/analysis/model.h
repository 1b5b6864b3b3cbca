#pragma once
// Which law a sweep follows, how well its exponent is known, and what either law says about the largest x.
//
// Model: the plain power y = c x^b, unless an offset a >= 0 lowers Akaike's corrected criterion by at least
// kAkaikeMargin and the declared growth is at least kLeastGrowthForOffset (where work hardly grows an offset
// and a power cannot be told apart). Bytes and FLOPs are exact: there an offset is taken, from four points
// on, where it fits to kExactResidual and the power does not.
//
// Interval of a time's exponent. The offset model's: its profile (power_fit.h). The power's: b -+ t SE, and
// where an offset is possible (from kPointsForOffset points on) its upper end is raised to the one-sided 95 %
// bound of the offset's profile: an offset too small to be seen still makes the power's exponent too small,
// and b -+ t SE alone held the truth in 78 % of simulated campaigns instead of 95 % (attnbench selftest
// --coverage). All rest on the scatter of the points around the curve, so they hold the differences between
// processes, which the raw samples of a point cannot show; the 95 % percentile interval over kResamples
// bootstrap resamples of the raw samples (fixed seed) widens them where it is wider.

#include <cstdint>
#include <optional>
#include <vector>

#include "harness/analysis/analytic.h"
#include "harness/analysis/power_fit.h"
#include "harness/analysis/series.h"

namespace attn {

inline constexpr double kAkaikeMargin = 2;
inline constexpr double kLeastGrowthForOffset = 0.5;
inline constexpr size_t kPointsForOffset = 5;
inline constexpr double kExactResidual = 1e-6;
inline constexpr int kResamples = 400;
inline constexpr uint64_t kBootstrapSeed = 20170612;

struct Data {
  std::vector<double> x, y;
};
Data measured_data(const std::vector<Point>& points, Quantity quantity);
/// The declared quantity over the same points; empty where one lacks it.
Data declared_data(const std::vector<Point>& points, Quantity quantity);

PowerFit choose_exact(const Data& data);
/// `declared_growth`: the analytic exponent, where there is one.
PowerFit choose_noisy(const std::vector<Point>& points, std::optional<double> declared_growth);

/// The fitted law and the declared cost, each fitted without the largest x, against the measurement there.
/// The declared law is a + c g(x), a >= 0, with the declared quantity g.
struct HeldOut {
  double x = 0;
  double error_fitted = 0, error_declared = 0;  ///< predicted / measured - 1
};
/// None below four points, or where nothing is declared.
std::optional<HeldOut> hold_out_largest(const std::vector<Point>& points, Quantity quantity,
                                        bool with_offset);

}  // namespace attn
