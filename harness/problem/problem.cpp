#include "harness/problem/problem.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "harness/problem/error.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

constexpr const char* kFields = "b, hq, hk, nq, nk, d, dv, dtype, pass, mask, pos, scope, dm, scale, softcap";

using Fields = std::map<std::string_view, std::string_view>;

Fields read_fields(std::string_view text) {
  Fields fields;
  for (std::string_view item : split(text, ',')) {
    const size_t equals = item.find('=');
    if (equals == std::string_view::npos || equals == 0 || equals + 1 == item.size()) {
      throw UsageError(fmt::format("problem: '{}' is not of the form field=value", item));
    }
    if (!fields.emplace(item.substr(0, equals), item.substr(equals + 1)).second) {
      throw UsageError(fmt::format("problem: field '{}' is given twice", item.substr(0, equals)));
    }
  }
  return fields;
}

/// Hands out fields by name; what remains unread at the end is unknown.
class FieldReader {
 public:
  explicit FieldReader(std::string_view text) : fields_(read_fields(text)) {}

  std::optional<std::string_view> take(std::string_view name) {
    const auto found = fields_.find(name);
    if (found == fields_.end()) return std::nullopt;
    const std::string_view value = found->second;
    fields_.erase(found);
    return value;
  }
  int64_t count(std::string_view name, int64_t otherwise) {
    const auto value = take(name);
    return value ? parse_count(*value, fmt::format("problem: {}", name)) : otherwise;
  }
  double number(std::string_view name, double otherwise) {
    const auto value = take(name);
    return value ? parse_number(*value, fmt::format("problem: {}", name)) : otherwise;
  }
  void finish() const {
    if (fields_.empty()) return;
    throw UsageError(fmt::format("problem: field '{}' is unknown: use {}", fields_.begin()->first, kFields));
  }

 private:
  Fields fields_;
};

Pass parse_pass(std::string_view text) {
  if (text == "fwd") return Pass::fwd;
  if (text == "bwd") return Pass::bwd;
  throw UsageError(fmt::format("problem: pass '{}' is unknown: use fwd or bwd", text));
}

Scope parse_scope(std::string_view text) {
  if (text == "core") return Scope::core;
  if (text == "block") return Scope::block;
  throw UsageError(fmt::format("problem: scope '{}' is unknown: use core or block", text));
}

void require(bool holds, const std::string& otherwise) {
  if (!holds) throw UsageError("problem: " + otherwise);
}

/// Elements of the largest tensor, stored or not, that any algorithm may count: as long as it is small, no
/// count of elements or bytes comes near 2^63.
double largest_tensor(const Problem& p) {
  const auto product = [](auto... extents) { return (static_cast<double>(extents) * ...); };
  const int64_t widest = std::max(p.head_dim, p.value_dim), longest = std::max(p.seq_q, p.seq_kv);
  const double model = p.model_dim ? static_cast<double>(p.model_dim) : product(p.heads_q, p.head_dim);
  const double columns = static_cast<double>(std::max(p.seq_kv, p.position.shaw_rows()));
  return std::max({product(p.batch, p.heads_q, longest, widest),
                   product(p.batch, p.heads_q, p.seq_q, columns), product(p.position.shaw_rows(), widest),
                   p.scope == Scope::block ? product(model, p.heads_q, widest) : 0,
                   p.scope == Scope::block ? product(p.batch, longest, model) : 0});
}

}  // namespace

Problem Problem::parse(std::string_view text) {
  FieldReader fields(text);
  Problem p;
  p.batch = fields.count("b", p.batch);
  p.heads_q = fields.count("hq", p.heads_q);
  p.heads_kv = fields.count("hk", p.heads_q);
  p.seq_q = fields.count("nq", p.seq_q);
  p.seq_kv = fields.count("nk", p.seq_q);
  p.head_dim = fields.count("d", p.head_dim);
  p.value_dim = fields.count("dv", p.head_dim);
  p.model_dim = fields.count("dm", 0);
  if (const auto value = fields.take("dtype")) p.dtype = parse_dtype(*value);
  if (const auto value = fields.take("pass")) p.pass = parse_pass(*value);
  if (const auto value = fields.take("scope")) p.scope = parse_scope(*value);
  if (const auto value = fields.take("mask")) p.mask = Mask::parse(*value);
  if (const auto value = fields.take("pos")) p.position = Position::parse(*value);
  if (const auto value = fields.take("scale")) p.scale = parse_number(*value, "problem: scale");
  p.softcap = fields.number("softcap", 0);
  fields.finish();
  p.validate();
  return p;
}

std::string Problem::text() const {
  std::string text = fmt::format("b={},hq={},hk={},nq={},nk={},d={},dv={},dtype={},pass={},mask={},pos={}",
                                 batch, heads_q, heads_kv, seq_q, seq_kv, head_dim, value_dim, to_text(dtype),
                                 pass == Pass::fwd ? "fwd" : "bwd", mask.text(), position.text());
  if (scope == Scope::block) text += fmt::format(",scope=block,dm={}", model_width());
  if (scale) text += fmt::format(",scale={}", *scale);
  if (softcap != 0) text += fmt::format(",softcap={}", softcap);
  return text;
}

void Problem::validate() const {
  constexpr int64_t kLongest = int64_t{1} << 31;
  for (const auto& [name, value] : {std::pair{"b", batch},
                                    {"hq", heads_q},
                                    {"hk", heads_kv},
                                    {"nq", seq_q},
                                    {"d", head_dim},
                                    {"dv", value_dim}}) {
    require(value >= 1 && value <= kLongest, fmt::format("{}={} must be from 1 to 2^31", name, value));
  }
  require(seq_kv >= 0 && seq_kv <= kLongest, fmt::format("nk={} must be from 0 to 2^31", seq_kv));
  require(model_dim <= kLongest, fmt::format("dm={} must be from 1 to 2^31", model_dim));
  require(largest_tensor(*this) <= 0x1p48, "its tensors or scores have more than 2^48 elements");
  require(heads_q % heads_kv == 0, fmt::format("hq={} is not a multiple of hk={}", heads_q, heads_kv));
  require(softcap >= 0, fmt::format("softcap={} must be positive, or 0 for none", softcap));
  require(!scale || *scale != 0, "scale=0 would ignore queries and keys: give a non-zero number");
  require(!position.rope() || head_dim >= 2, "pos rope needs d >= 2");
  if (scope == Scope::block) {
    require(seq_q == seq_kv, "scope=block is self-attention: nq must equal nk");
  } else {
    require(model_dim == 0, "dm is the width of a block: it needs scope=block");
  }
  mask.validate(batch, seq_q, seq_kv);
}

double Problem::softmax_scale() const {
  return scale ? *scale : 1.0 / std::sqrt(static_cast<double>(head_dim));
}

Problem Problem::with(Pass other) const {
  Problem copy = *this;
  copy.pass = other;
  return copy;
}

Problem Problem::with(Scope other) const {
  Problem copy = *this;
  copy.scope = other;
  if (other == Scope::core) copy.model_dim = 0;
  return copy;
}

namespace {

/// Keys of [range) that the block row of query i shows.
int64_t visible_in_blocks(const MaskRule& rule, int64_t i, KeyRange range) {
  int64_t count = 0;
  const uint8_t* row = rule.blocks + (i / rule.block_q) * rule.block_columns;
  for (int64_t c = range.begin / rule.block_kv; c * rule.block_kv < range.end; ++c) {
    if (!row[c]) continue;
    const int64_t begin = std::max(range.begin, c * rule.block_kv);
    count += std::min(range.end, (c + 1) * rule.block_kv) - begin;
  }
  return count;
}

/// sum over i in [0, rows) of min(max(i + shift, 0), keys).
int64_t clamped_sum(int64_t rows, int64_t shift, int64_t keys) {
  const int64_t first = std::clamp(-shift, int64_t{0}, rows), last = std::clamp(keys - shift, first, rows);
  return (last - first) * (first + last - 1 + 2 * shift) / 2 + (rows - last) * keys;
}

/// Of one batch entry.
int64_t visible_pairs(const Problem& problem, const MaskRule& rule, int64_t b) {
  if (rule.band_low > rule.band_high) return 0;
  if (!rule.blocks && !rule.documents) {
    const int64_t keys = rule.key_length(b);
    return clamped_sum(problem.seq_q, rule.band_high + 1, keys) -
           clamped_sum(problem.seq_q, rule.band_low, keys);
  }
  int64_t count = 0;
  for (int64_t i = 0; i < problem.seq_q; ++i) {
    const KeyRange range = rule.row_range(b, i);
    count += rule.blocks ? visible_in_blocks(rule, i, range) : range.end - range.begin;
  }
  return count;
}

}  // namespace

int64_t visible_pairs(const Problem& problem) {
  const MaskRule rule = problem.mask_rule();
  if (rule.lengths_count <= 1) return problem.batch * visible_pairs(problem, rule, 0);
  int64_t count = 0;
  for (int64_t b = 0; b < problem.batch; ++b) count += visible_pairs(problem, rule, b);
  return count;
}

double density(const Problem& problem) {
  const double all = static_cast<double>(problem.batch) * static_cast<double>(problem.seq_q) *
                     static_cast<double>(problem.seq_kv);
  return all == 0 ? 0 : static_cast<double>(visible_pairs(problem)) / all;
}

}  // namespace attn
