// Measured roofs as limits and as JSON: what those need who only read them.

#include <algorithm>

#include "harness/measure/roofs.h"

namespace attn {
namespace {

nlohmann::json known_or_null(double value) {
  return value > 0 ? nlohmann::json(value) : nlohmann::json(nullptr);
}

/// Also of an environment.json written before the roof existed.
double known_or_zero(const nlohmann::json& entry, const char* key) {
  return entry.contains(key) && entry[key].is_number() ? entry[key].get<double>() : 0.0;
}

}  // namespace

RoofLimits Roofs::limits(int threads) const {
  const auto found = by_threads.find(threads);
  if (found == by_threads.end()) return {};
  RoofLimits limits{found->second.fma_f32_flops_per_s, found->second.exp_f32_per_s, {}};
  for (const LevelRoof& level : found->second.levels) {
    limits.levels.push_back({level.bytes, level.read_bytes_per_s});
  }
  return limits;
}

nlohmann::json to_json(const Roofs& roofs) {
  nlohmann::json by_threads = nlohmann::json::array();
  for (const auto& [threads, measured] : roofs.by_threads) {
    nlohmann::json bytes, read, copy;
    for (const LevelRoof& level : measured.levels) {
      bytes[level.level] = level.bytes;
      read[level.level] = level.read_bytes_per_s;
      copy[level.level] = level.copy_bytes_per_s;
    }
    by_threads.push_back({{"threads", threads},
                          {"fma_f32_flops_per_s", measured.fma_f32_flops_per_s},
                          {"exp_f32_per_s", measured.exp_f32_per_s},
                          {"sgemm_flops_per_s", known_or_null(measured.sgemm_flops_per_s)},
                          {"level_bytes", bytes},
                          {"read_bytes_per_s", read},
                          {"copy_bytes_per_s", copy}});
  }
  return {{"target", roofs.target}, {"by_threads", by_threads}};
}

Roofs roofs_from_json(const nlohmann::json& json) {
  Roofs roofs;
  json.at("target").get_to(roofs.target);
  for (const auto& entry : json.at("by_threads")) {
    ThreadRoofs& measured = roofs.by_threads[entry.at("threads").get<int>()];
    entry.at("fma_f32_flops_per_s").get_to(measured.fma_f32_flops_per_s);
    entry.at("exp_f32_per_s").get_to(measured.exp_f32_per_s);
    measured.sgemm_flops_per_s = known_or_zero(entry, "sgemm_flops_per_s");
    for (const auto& [level, bytes] : entry.at("level_bytes").items()) {
      measured.levels.push_back({level, bytes.get<double>(),
                                 entry.at("read_bytes_per_s").at(level).get<double>(),
                                 entry.at("copy_bytes_per_s").at(level).get<double>()});
    }
    std::sort(measured.levels.begin(), measured.levels.end(),
              [](const LevelRoof& a, const LevelRoof& b) { return a.bytes < b.bytes; });
  }
  return roofs;
}

}  // namespace attn
