#include "harness/analysis/analytic.h"

#include <cmath>

#include "harness/problem/error.h"
#include "harness/registry.h"
#include "harness/run/binding.h"

namespace attn {
namespace {

bool is_memory(Quantity quantity) {
  return quantity == Quantity::workspace || quantity == Quantity::total_memory;
}

/// What the linked variant declares for the scaled problem; none where it does not exist or is not supported.
std::optional<double> declared_by_variant(const ResultRow& row, Axis axis, int64_t factor,
                                          Quantity quantity) {
  const Variant* variant = linked_variant(row.variant);
  if (!variant) return {};
  try {
    const Problem problem = scaled(row, axis, factor);
    if (!variant->supports(problem.with(Scope::core))) return {};
    if (!is_memory(quantity)) return cost_of(*variant, problem).flops_executed;
    const size_t planned = planned_workspace_bytes(*variant, problem, static_cast<int>(row.threads));
    return static_cast<double>(planned + (quantity == Quantity::total_memory ? operand_bytes(problem) : 0));
  } catch (const UsageError&) {  // a mask that belongs to one shape, a file that is gone
    return {};
  }
}

/// b of y = a + c x^b through three points with x in geometric progression; 0 where y does not grow.
std::optional<double> exponent_of_increments(double y1, double y2, double y3, double ratio_of_x) {
  if (y2 == y1 && y3 == y2) return 0.0;
  if (y2 <= y1 || y3 <= y2) return {};
  return std::log((y3 - y2) / (y2 - y1)) / std::log(ratio_of_x);
}

std::optional<double> from_variant(const ResultRow& row, Axis axis, Quantity quantity) {
  const auto once = declared_by_variant(row, axis, 1, quantity),
             twice = declared_by_variant(row, axis, 2, quantity);
  if (!once || !twice) return {};
  if (!is_memory(quantity)) {
    return *once > 0 && *twice > 0 ? std::optional(std::log2(*twice / *once)) : std::nullopt;
  }
  const auto four_times = declared_by_variant(row, axis, 4, quantity);
  return four_times ? exponent_of_increments(*once, *twice, *four_times, 2) : std::nullopt;
}

std::optional<double> from_columns(const std::vector<Point>& points, Quantity quantity) {
  if (points.size() < 2) return {};
  const Point& last = points.back();
  const Point& previous = points[points.size() - 2];
  const auto y3 = declared_value(*last.row, quantity), y2 = declared_value(*previous.row, quantity);
  if (!y2 || !y3) return {};
  if (!is_memory(quantity)) {
    return *y2 > 0 && *y3 > 0 ? std::optional(std::log(*y3 / *y2) / std::log(last.x / previous.x))
                              : std::nullopt;
  }
  if (points.size() < 3) return {};
  const Point& first = points[points.size() - 3];
  const auto y1 = declared_value(*first.row, quantity);
  const double ratio = last.x / previous.x;
  if (!y1 || std::abs(ratio - previous.x / first.x) > 1e-9 * ratio) return {};
  return exponent_of_increments(*y1, *y2, *y3, ratio);
}

std::optional<double> as_number(const Count& count) {
  return count ? std::optional(static_cast<double>(*count)) : std::nullopt;
}

std::optional<double> with_operands(const ResultRow& row, const Count& workspace) {
  if (!workspace || !row.memory_operands_bytes) return {};
  return static_cast<double>(*workspace + *row.memory_operands_bytes);
}

}  // namespace

std::string to_text(Quantity quantity) {
  switch (quantity) {
    case Quantity::time:
      return "time";
    case Quantity::workspace:
      return "workspace";
    case Quantity::total_memory:
      return "total_memory";
    case Quantity::flops:
      return "flops";
  }
  return "";
}

std::string unit_of(Quantity quantity) {
  if (quantity == Quantity::time) return "s";
  return quantity == Quantity::flops ? "flop" : "bytes";
}

std::optional<double> measured_value(const ResultRow& row, Quantity quantity) {
  switch (quantity) {
    case Quantity::time:
      return row.time_s_median;
    case Quantity::workspace:
      return as_number(row.memory_workspace_peak_bytes);
    case Quantity::total_memory:
      return with_operands(row, row.memory_workspace_peak_bytes);
    case Quantity::flops:
      return row.flops_executed;
  }
  return {};
}

std::optional<double> declared_value(const ResultRow& row, Quantity quantity) {
  switch (quantity) {
    case Quantity::time:
    case Quantity::flops:
      return row.flops_executed;
    case Quantity::workspace:
      return as_number(row.memory_workspace_planned_bytes);
    case Quantity::total_memory:
      return with_operands(row, row.memory_workspace_planned_bytes);
  }
  return {};
}

Problem scaled(const ResultRow& row, Axis axis, int64_t factor) {
  Problem p = Problem::parse(row.problem);
  switch (axis) {
    case Axis::n:
      p.seq_q *= factor;
      p.seq_kv *= factor;
      break;
    case Axis::d:
      p.head_dim *= factor;
      p.value_dim *= factor;
      break;
    case Axis::h_fixed_width:
      if (p.head_dim % factor != 0 || p.value_dim % factor != 0) {
        throw UsageError("the width cannot be split among that many heads");
      }
      p.heads_q *= factor;
      p.heads_kv *= factor;
      p.head_dim /= factor;
      p.value_dim /= factor;
      break;
    case Axis::h_fixed_head:
      p.heads_q *= factor;
      p.heads_kv *= factor;
      break;
    case Axis::density:
      throw UsageError("a mask has no multiple");
    case Axis::d_o:
      p.model_dim = p.model_width() * factor;
      break;
  }
  const bool width_follows = axis == Axis::d || axis == Axis::h_fixed_head;
  if (width_follows && p.model_dim == row.heads_q * row.d_head) p.model_dim = p.heads_q * p.head_dim;
  p.validate();
  return p;
}

std::optional<double> analytic_exponent(const Series& series, const std::vector<Point>& points,
                                        Quantity quantity) {
  if (points.empty()) return {};
  const auto declared = from_variant(*points.back().row, series.axis, quantity);
  return declared ? declared : from_columns(points, quantity);
}

}  // namespace attn
