#include "harness/analysis/frontier.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "harness/forecast/bytes.h"
#include "harness/forecast/rates.h"
#include "harness/problem/error.h"
#include "harness/registry.h"

namespace attn {
namespace {

using nlohmann::json;

constexpr int64_t kGiB = int64_t{1} << 30;
constexpr int64_t kSizes[] = {8 * kGiB, 16 * kGiB, 24 * kGiB, 40 * kGiB, 80 * kGiB, 192 * kGiB};
/// The longest that a problem's text may ask for.
constexpr int64_t kLongest = int64_t{1} << 31;

struct Line {
  const Variant* variant;
  const ResultRow* row;  ///< one of them: they differ in n only
  std::string setting;
  Count largest_ok;
};

/// Rows by variant and setting of the n axis.
std::vector<Line> lines_of(const std::vector<ResultRow>& rows) {
  std::map<std::pair<std::string, std::string>, Line> lines;
  for (const ResultRow& row : rows) {
    const Variant* variant = linked_variant(row.variant);
    if (!variant || row.status == Status::skipped || row.status == Status::unsupported) continue;
    const std::string setting = setting_of(row, Axis::n);
    if (setting.empty()) continue;
    Line& line =
        lines.emplace(std::pair(setting, row.variant), Line{variant, &row, setting, {}}).first->second;
    if (row.status == Status::ok) line.largest_ok = std::max(line.largest_ok.value_or(0), row.seq_q);
  }
  std::vector<Line> list;
  for (auto& [key, line] : lines) list.push_back(line);
  return list;
}

std::optional<int64_t> memory_limit(const json& environment) {
  std::optional<int64_t> limit;
  if (!environment.is_object() || !environment.contains("sessions")) return limit;
  for (const json& session : environment["sessions"]) {
    const json bytes = session.value("memory_limit_bytes", json());
    if (bytes.is_number()) limit = std::max(limit.value_or(0), bytes.get<int64_t>());
  }
  return limit;
}

/// Rates of the machine that measured the row.
class RatesByMachine {
 public:
  explicit RatesByMachine(const CampaignData& campaign) {
    std::set<std::string> machines;
    for (const ResultRow& row : campaign.rows) machines.insert(row.machine);
    for (const std::string& machine : machines) {
      Rates& rates = rates_.emplace(machine, Rates(roofs_of(campaign.environment, machine))).first->second;
      for (const ResultRow& row : campaign.rows) {
        if (row.machine == machine) rates.learn(row);
      }
    }
  }
  const Rates& of(const ResultRow& row) const { return rates_.at(row.machine); }

 private:
  static Roofs roofs_of(const json& environment, const std::string& machine) {
    try {
      const json& where = machine.empty() ? environment : environment.at("machines").at(machine);
      return roofs_from_json(where.at("roofs"));
    } catch (const json::exception&) {  // measured before there were roofs
      return {};
    }
  }

  std::map<std::string, Rates> rates_;
};

/// The problem of the line at another length; nothing where it does not exist or is not supported.
std::optional<Problem> at_length(const Line& line, const Problem& base, int64_t n) {
  Problem p = base;
  p.seq_q = p.seq_kv = n;
  try {
    p.validate();
  } catch (const UsageError&) {
    return std::nullopt;
  }
  if (!line.variant->supports(p.with(Scope::core))) return std::nullopt;
  return p;
}

FrontierRow frontier_row(const Line& line, const Problem& base, int64_t memory, const Rates& rates) {
  const int threads = static_cast<int>(line.row->threads);
  const auto room = static_cast<size_t>(memory);
  const Variant& variant = *line.variant;
  FrontierRow row{.variant = variant.info().name,
                  .setting = line.setting,
                  .device = line.row->device,
                  .memory_bytes = memory};
  row.largest_n_measured = line.largest_ok;
  const auto longest = [&](auto bytes_of_problem) {
    const auto fits = [&](int64_t n) {
      const auto p = at_length(line, base, n);
      if (!p) return n < line.row->seq_q;  // too short for its padding, say: longer ones exist
      return bytes_of_problem(*p) <= room;
    };
    const auto n = largest_length(fits, kLongest);
    return n && at_length(line, base, *n) ? n : std::nullopt;
  };
  row.largest_n_checked =
      longest([&](const Problem& p) { return shared_bytes(p) + variant_bytes(variant, p, threads); });
  row.largest_n = longest([&](const Problem& p) { return call_bytes(variant, p, threads); });
  if (!row.largest_n) return row;
  row.limited_by = at_length(line, base, *row.largest_n + 1) ? "memory" : "problem";
  const Problem p = *at_length(line, base, *row.largest_n);
  row.bytes = static_cast<int64_t>(call_bytes(variant, p, threads));
  const TimeForecast call = rates.predict(variant, p, threads);
  if (call.measured) row.time_s_predicted = call.time_s;
  return row;
}

}  // namespace

std::optional<int64_t> largest_length(const std::function<bool(int64_t)>& fits, int64_t most) {
  if (!fits(1)) return std::nullopt;
  int64_t low = 1;  // fits
  while (low < most && fits(std::min(2 * low, most))) low = std::min(2 * low, most);
  if (low == most) return most;
  int64_t high = std::min(2 * low, most);  // does not fit
  while (high - low > 1) {
    const int64_t middle = low + (high - low) / 2;
    (fits(middle) ? low : high) = middle;
  }
  return low;
}

std::vector<FrontierRow> find_frontier(const CampaignData& campaign) {
  std::vector<FrontierRow> rows;
  const std::optional<int64_t> limit = memory_limit(campaign.environment);
  std::vector<int64_t> sizes(std::begin(kSizes), std::end(kSizes));
  if (limit) sizes.insert(sizes.begin(), *limit);
  const RatesByMachine rates(campaign);
  for (const Line& line : lines_of(campaign.rows)) {
    try {
      const Problem base = Problem::parse(line.row->problem);
      if (base.mask.has_blocks() || !at_length(line, base, line.row->seq_q + 1)) continue;
      for (size_t k = 0; k < sizes.size(); ++k) {
        rows.push_back(frontier_row(line, base, sizes[k], rates.of(*line.row)));
        rows.back().is_limit = limit && k == 0 ? "yes" : "no";
      }
    } catch (const UsageError&) {  // a mask whose file is gone
    }
  }
  return rows;
}

}  // namespace attn
