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

Arithmetic arithmetic_of(const Info& info, Dtype dtype) {
  if (dtype == Dtype::bf16) return Arithmetic::bf16;
  if (dtype == Dtype::f16) return Arithmetic::f16;
  const auto says = [&](const char* word) {
    return info.name.find(word) != std::string::npos ||
           std::find(info.tags.begin(), info.tags.end(), word) != info.tags.end();
  };
  return says("tf32x3") ? Arithmetic::tf32x3 : says("tf32") ? Arithmetic::tf32 : Arithmetic::f32;
}

RoofLimits GpuRoofs::limits(Arithmetic arithmetic) const {
  const double f32 = std::max(fma_f32_flops_per_s, gemm_f32_flops_per_s);
  double flops = 0;
  switch (arithmetic) {
    case Arithmetic::f32:
      flops = f32;
      break;
    case Arithmetic::tf32:
      flops = gemm_tf32_flops_per_s;
      break;
    case Arithmetic::tf32x3:
      flops = gemm_tf32_flops_per_s > 0 ? std::max(f32, gemm_tf32_flops_per_s / 3) : 0;
      break;
    case Arithmetic::bf16:
      flops = gemm_bf16_flops_per_s;
      break;
    case Arithmetic::f16:
      flops = gemm_f16_flops_per_s;
      break;
  }
  return {flops,
          std::max(ex2_approx_per_s, exp2f_per_s),
          {{memory_bytes, std::max(read_bytes_per_s, copy_bytes_per_s)}}};
}

namespace {

struct NamedRoof {
  const char* name;
  double GpuRoofs::*member;
};
constexpr NamedRoof kGpuRoofs[] = {{"fma_f32_flops_per_s", &GpuRoofs::fma_f32_flops_per_s},
                                   {"gemm_f32_flops_per_s", &GpuRoofs::gemm_f32_flops_per_s},
                                   {"gemm_tf32_flops_per_s", &GpuRoofs::gemm_tf32_flops_per_s},
                                   {"gemm_bf16_flops_per_s", &GpuRoofs::gemm_bf16_flops_per_s},
                                   {"gemm_f16_flops_per_s", &GpuRoofs::gemm_f16_flops_per_s},
                                   {"read_bytes_per_s", &GpuRoofs::read_bytes_per_s},
                                   {"copy_bytes_per_s", &GpuRoofs::copy_bytes_per_s},
                                   {"ex2_approx_per_s", &GpuRoofs::ex2_approx_per_s},
                                   {"exp2f_per_s", &GpuRoofs::exp2f_per_s},
                                   {"launch_s", &GpuRoofs::launch_s},
                                   {"memory_bytes", &GpuRoofs::memory_bytes}};

}  // namespace

nlohmann::json to_json(const GpuRoofs& roofs) {
  nlohmann::json json;
  for (const NamedRoof& roof : kGpuRoofs) json[roof.name] = known_or_null(roofs.*roof.member);
  return json;
}

GpuRoofs gpu_roofs_from_json(const nlohmann::json& json) {
  GpuRoofs roofs;
  for (const NamedRoof& roof : kGpuRoofs) roofs.*roof.member = known_or_zero(json, roof.name);
  return roofs;
}

RoofLimits Roofs::limits(int threads) const {
  const auto found = by_threads.find(threads);
  if (found == by_threads.end()) return {};
  RoofLimits limits{found->second.fma_f32_flops_per_s, found->second.exp_f32_per_s, {}};
  for (const LevelRoof& level : found->second.levels) {
    limits.levels.push_back({level.bytes, level.read_bytes_per_s});
  }
  return limits;
}

RoofLimits Roofs::limits(const Variant& variant, const Problem& problem, int threads) const {
  const Info& info = variant.info();
  if (info.device == Device::cpu) return limits(threads);
  return gpu ? gpu->limits(arithmetic_of(info, problem.dtype)) : RoofLimits{};
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
  return {{"target", roofs.target},
          {"by_threads", by_threads},
          {"gpu", roofs.gpu ? to_json(*roofs.gpu) : nlohmann::json()}};
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
  if (json.contains("gpu") && json["gpu"].is_object()) roofs.gpu = gpu_roofs_from_json(json["gpu"]);
  return roofs;
}

}  // namespace attn
