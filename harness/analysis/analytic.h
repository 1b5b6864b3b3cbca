#pragma once
// What a sweep's quantity is by measurement, by the variant's declarations, and how the declared one grows.

#include <optional>
#include <string>
#include <vector>

#include "harness/analysis/series.h"
#include "harness/problem/problem.h"

namespace attn {

/// time: median of the raw samples. workspace: observed peak. total_memory: operands and observed workspace.
/// flops: executed, as declared by cost().
enum class Quantity { time, workspace, total_memory, flops };
inline constexpr Quantity kQuantities[] = {Quantity::time, Quantity::workspace, Quantity::total_memory,
                                           Quantity::flops};
std::string to_text(Quantity quantity);
/// s, bytes or flop.
std::string unit_of(Quantity quantity);

/// The measured value; none where the row lacks it.
std::optional<double> measured_value(const ResultRow& row, Quantity quantity);
/// What the variant declared, from the row: flops_executed for time and flops, planned workspace for memory.
std::optional<double> declared_value(const ResultRow& row, Quantity quantity);

/// The row's problem with its axis multiplied by `factor`, all else as the axis holds it.
Problem scaled(const ResultRow& row, Axis axis, int64_t factor);

/// Exponent of the declared quantity at x, the last of the points: ln2 of the quantity's ratio between 2x and
/// x for time and flops; of its increments between x, 2x and 4x for memory, so that constant scratch falls
/// out. The variant is asked (cost(), plan()) where it is linked and the larger problem exists; otherwise the
/// same formula, with their own ratio of x, is applied to the last points' columns. None where there are too
/// few.
std::optional<double> analytic_exponent(const Series& series, const std::vector<Point>& points,
                                        Quantity quantity);

}  // namespace attn
