#include "harness/forecast/rates.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>

#include "harness/forecast/bytes.h"
#include "harness/problem/error.h"
#include "harness/registry.h"
#include "harness/run/binding.h"

namespace attn {
namespace {

/// How many octaves of length a difference in the settings is worth.
constexpr double kOtherKind = 1, kOtherNumbers = 0.5, kOtherDtype = 2, kOtherPass = 8, kOctaveOfHeads = 0.5;

/// Of a GPU without measured roofs. Efficiencies against it are no shares of anything; they carry times from
/// one problem to the next.
const RoofLimits kNominalGpu = {1e13, 1e12, {{0, 1e12}}};

std::optional<double> seconds_at(const RoofLimits& roofs, const Variant& variant, const Problem& problem,
                                 int threads) {
  const Cost cost = cost_of(variant, problem);
  const auto held = static_cast<double>(call_bytes(variant, problem, threads));
  const auto limit = limit_of({cost.flops_executed, cost.exps, cost.bytes_moved, held}, roofs);
  if (!limit || limit->time_s <= 0) return std::nullopt;
  return limit->time_s;
}

/// What an efficiency refers to.
std::optional<double> scale_s(const Variant& variant, const Problem& problem, int threads,
                              const Roofs& roofs) {
  const bool nominal = variant.info().device == Device::cuda && !roofs.gpu;
  return seconds_at(nominal ? kNominalGpu : roofs.limits(variant, problem, threads), variant, problem,
                    threads);
}

/// A star for every number.
std::string kind_of(const std::string& text) {
  static const std::regex numbers("[0-9]+");
  return std::regex_replace(text, numbers, "*");
}

double octave(int64_t value) { return std::log2(static_cast<double>(value)); }

double difference(const std::string& kind, const std::string& text, const std::string& other_kind,
                  const std::string& other_text) {
  if (text == other_text) return 0;
  return kind == other_kind ? kOtherNumbers : kOtherKind;
}

}  // namespace

std::optional<double> seconds_at_roof(const Variant& variant, const Problem& problem, int threads,
                                      const Roofs& roofs) {
  return seconds_at(roofs.limits(variant, problem, threads), variant, problem, threads);
}

Rates::Place::Place(const Problem& p, int thread_count)
    : pass(p.pass),
      scope(p.scope),
      dtype(p.dtype),
      mask(p.mask.text()),
      mask_kind(kind_of(mask)),
      position(p.position.text()),
      position_kind(kind_of(position)),
      setting(fmt::format("scope={},pass={},dtype={},mask={},pos={},threads={}", static_cast<int>(scope),
                          static_cast<int>(pass), to_text(dtype), mask_kind, position_kind, thread_count)),
      queries(octave(p.seq_q)),
      keys(octave(p.seq_kv)),
      heads(octave(p.batch * p.heads_q)),
      width(octave(p.head_dim)),
      threads(octave(thread_count)) {}

double Rates::Place::distance(const Place& other) const {
  double total = (std::abs(queries - other.queries) + std::abs(keys - other.keys)) / 2 +
                 std::abs(width - other.width) + kOctaveOfHeads * std::abs(heads - other.heads) +
                 std::abs(threads - other.threads);
  if (pass != other.pass) total += kOtherPass;
  if (scope != other.scope) total += kOtherPass;
  if (dtype != other.dtype) total += kOtherDtype;
  return total + difference(mask_kind, mask, other.mask_kind, other.mask) +
         difference(position_kind, position, other.position_kind, other.position);
}

void Rates::learn(const ResultRow& row, const Roofs& roofs) {
  const Variant* variant = linked_variant(row.variant);
  if (!variant || row.status != Status::ok || !row.time_s_median || *row.time_s_median <= 0) return;
  try {
    const Problem problem = Problem::parse(row.problem);
    const int threads = static_cast<int>(row.threads);
    if (!variant->supports(problem.with(Scope::core))) return;
    // What is learned and what is forecast must refer to the same kind of roof, measured or nominal.
    const bool comparable =
        variant->info().device == Device::cpu || roofs.gpu.has_value() == roofs_.gpu.has_value();
    const auto scale = scale_s(*variant, problem, threads, comparable ? roofs : roofs_);
    if (scale) observations_[row.variant].push_back({{problem, threads}, *scale / *row.time_s_median});
  } catch (const UsageError&) {  // a mask whose file is gone
  }
}

TimeForecast Rates::predict(const Variant& variant, const Problem& problem, int threads) const {
  const auto scale = scale_s(variant, problem, threads, roofs_);
  const auto known = observations_.find(variant.info().name);
  if (scale && known != observations_.end()) {
    const Place place(problem, threads);
    const Observation* nearest = nullptr;
    double least = std::numeric_limits<double>::infinity();
    for (const Observation& observation : known->second) {
      const double distance = place.distance(observation.place);
      if (distance > least) continue;  // of equals the latest
      least = distance;
      nearest = &observation;
    }
    return {*scale / nearest->efficiency, true};
  }
  return {seconds_at_roof(variant, problem, threads, roofs_), false};
}

bool Rates::knows(const Variant& variant, const Problem& problem, int threads) const {
  const auto known = observations_.find(variant.info().name);
  if (known == observations_.end()) return false;
  const std::string wanted = setting(problem, threads);
  return std::any_of(known->second.begin(), known->second.end(),
                     [&](const Observation& observation) { return observation.place.setting == wanted; });
}

std::string Rates::setting(const Problem& problem, int threads) { return Place(problem, threads).setting; }

}  // namespace attn
