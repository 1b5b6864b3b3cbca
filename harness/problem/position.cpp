#include "harness/problem/position.h"

#include <fmt/format.h>

#include <bit>

#include "harness/problem/error.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

constexpr const char* kAcceptedPositions =
    "use none, shaw:K, shaw-keys:K, alibi, t5:BUCKETS:MAX, t5-causal:BUCKETS:MAX, rope:BASE or "
    "rope-interleaved:BASE";

Position parse_shaw(PositionKind kind, std::string_view argument) {
  Position position{.kind = kind, .clip = parse_count(argument, "pos shaw clip")};
  if (position.clip > (1 << 20)) throw UsageError("pos shaw: the clip distance is at most 2^20");
  return position;
}

Position parse_t5(PositionKind kind, std::string_view arguments) {
  const auto words = split(arguments, ':');
  if (words.size() != 2) throw UsageError("pos t5 needs buckets and largest distance: t5:32:128");
  Position position{.kind = kind,
                    .buckets = parse_count(words[0], "pos t5 buckets"),
                    .max_distance = parse_count(words[1], "pos t5 largest distance")};
  const int64_t per_side = kind == PositionKind::t5 ? position.buckets / 2 : position.buckets;
  if (per_side < 2 || position.buckets % 2 != 0 || position.buckets > 4096) {
    throw UsageError("pos t5: buckets must be even, at least 4 (t5-causal: 2), at most 4096");
  }
  if (position.max_distance <= per_side / 2) {
    throw UsageError(fmt::format("pos t5: the largest distance must exceed {}", per_side / 2));
  }
  return position;
}

Position parse_rope(PositionKind kind, std::string_view argument) {
  Position position{.kind = kind, .base = parse_number(argument, "pos rope base")};
  if (position.base <= 1) throw UsageError("pos rope: the base must exceed 1 (10000 is usual)");
  return position;
}

}  // namespace

Position Position::parse(std::string_view text) {
  if (text == "none") return {};
  if (text == "alibi") return {.kind = PositionKind::alibi};
  const size_t colon = text.find(':');
  if (colon != std::string_view::npos) {
    const std::string_view name = text.substr(0, colon), arguments = text.substr(colon + 1);
    if (name == "shaw") return parse_shaw(PositionKind::shaw, arguments);
    if (name == "shaw-keys") return parse_shaw(PositionKind::shaw_keys, arguments);
    if (name == "t5") return parse_t5(PositionKind::t5, arguments);
    if (name == "t5-causal") return parse_t5(PositionKind::t5_causal, arguments);
    if (name == "rope") return parse_rope(PositionKind::rope, arguments);
    if (name == "rope-interleaved") return parse_rope(PositionKind::rope_interleaved, arguments);
  }
  throw UsageError(fmt::format("pos '{}' is unknown: {}", text, kAcceptedPositions));
}

std::string Position::text() const {
  switch (kind) {
    case PositionKind::none:
      return "none";
    case PositionKind::shaw:
      return fmt::format("shaw:{}", clip);
    case PositionKind::shaw_keys:
      return fmt::format("shaw-keys:{}", clip);
    case PositionKind::alibi:
      return "alibi";
    case PositionKind::t5:
      return fmt::format("t5:{}:{}", buckets, max_distance);
    case PositionKind::t5_causal:
      return fmt::format("t5-causal:{}:{}", buckets, max_distance);
    case PositionKind::rope:
      return fmt::format("rope:{}", base);
    case PositionKind::rope_interleaved:
      return fmt::format("rope-interleaved:{}", base);
  }
  return "?";
}

int64_t Position::t5_bucket(int64_t distance) const {
  const bool both_sides = kind == PositionKind::t5;
  const int64_t per_side = both_sides ? buckets / 2 : buckets;
  const int64_t first = both_sides && distance > 0 ? per_side : 0;
  int64_t back = -distance;  // query minus key
  if (both_sides) back = std::abs(back);
  if (back < 0) back = 0;
  const int64_t exact = per_side / 2;
  if (back < exact) return first + back;
  // Bucket exact + s starts at exact * (max / exact)^(s / (per_side - exact)); the small shift settles exact
  // ties.
  int64_t bucket = exact;
  while (bucket + 1 < per_side) {
    const double steps = static_cast<double>(bucket + 1 - exact) / static_cast<double>(per_side - exact);
    const double growth = static_cast<double>(max_distance) / static_cast<double>(exact);
    const double start = static_cast<double>(exact) * std::pow(growth, steps);
    if (static_cast<double>(back) < start - 1e-9 * start) break;
    ++bucket;
  }
  return first + bucket;
}

double alibi_slope(int64_t heads, int64_t head) {
  const auto power = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(heads)));
  if (head < power) return std::exp2(-8.0 * static_cast<double>(head + 1) / static_cast<double>(power));
  return std::exp2(-4.0 * static_cast<double>(2 * (head - power) + 1) / static_cast<double>(power));
}

}  // namespace attn
