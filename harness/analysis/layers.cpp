#include "harness/analysis/layers.h"

#include <fmt/format.h>

#include <map>
#include <tuple>
#include <utility>

#include "harness/analysis/interval.h"
#include "harness/analysis/model.h"
#include "harness/problem/text.h"

namespace attn {
namespace {

bool usable(const ResultRow& row) {
  return row.status == Status::ok && row.time_s_median && row.flops_useful && row.flops_executed;
}

Interval difference_interval(const Layer& layer) {
  std::mt19937_64 random(kBootstrapSeed);
  std::vector<double> differences;
  for (int k = 0; k < kResamples; ++k) {
    const double block_s = resampled_time_s(layer.block, random);
    differences.push_back(block_s - resampled_time_s(layer.core, random));
  }
  return {quantile(differences, 0.025), quantile(differences, 0.975)};
}

}  // namespace

std::string without_fields(const std::string& text, const std::set<std::string_view>& names) {
  std::string kept;
  for (const std::string_view field : split(text, ',')) {
    if (names.contains(field.substr(0, field.find('=')))) continue;
    kept += kept.empty() ? "" : ",";
    kept += field;
  }
  return kept;
}

std::vector<Layer> pair_layers(const std::vector<ResultRow>& rows, const SampleIndex& samples) {
  const auto key = [](const ResultRow& row) {
    return std::tuple(row.variant, without_fields(row.problem, {"scope", "dm"}), row.threads, row.machine);
  };
  const auto point = [&](const ResultRow& row) {
    return point_at(static_cast<double>(row.seq_q), row, samples);
  };
  std::map<decltype(key(rows.front())), Point> cores;
  std::map<std::pair<std::string, std::string>, Layer> layers;  // a repeated point: the last row
  for (const ResultRow& row : rows) {
    if (usable(row) && row.scope == "core") cores[key(row)] = point(row);
  }
  for (const ResultRow& row : rows) {
    if (!usable(row) || row.scope != "block") continue;
    const auto core = cores.find(key(row));
    if (core != cores.end()) layers[{row.variant, row.point}] = {core->second, point(row)};
  }
  std::vector<Layer> found;
  for (const auto& [id, layer] : layers) found.push_back(layer);
  return found;
}

std::vector<ResultRow> core_rows(const std::vector<Layer>& layers) {
  std::set<const ResultRow*> distinct;
  std::vector<ResultRow> rows;
  for (const Layer& layer : layers) {
    if (distinct.insert(layer.core.row).second) rows.push_back(*layer.core.row);
  }
  return rows;
}

Projections projections_of(const std::vector<Layer>& layers) {
  Projections projections;
  for (const Layer& layer : layers) {
    ResultRow row = *layer.block.row;
    const double core_share = *layer.core.row->time_s_median / *row.time_s_median;
    const Interval interval = difference_interval(layer);
    row.variant = std::string(kDifference) + row.variant;
    row.time_s_median = *row.time_s_median - *layer.core.row->time_s_median;
    row.time_s_ci_low = interval.low;
    row.time_s_ci_high = interval.high;
    row.flops_useful = row.flops_executed = *row.flops_useful - *layer.core.row->flops_useful;
    projections.rows.push_back(row);
    const bool unclear = core_share > kLargestCoreShare || interval.low <= 0;
    projections.unclear.push_back(
        unclear ? fmt::format("the core takes {:.0f} % of the block", 100 * core_share) : "");
  }
  return projections;
}

}  // namespace attn
