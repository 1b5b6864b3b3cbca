#include "harness/campaign/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>

#include "harness/campaign/pool.h"
#include "harness/campaign/supervisor.h"
#include "harness/measure/environment.h"
#include "harness/problem/error.h"
#include "harness/run/binding.h"

namespace attn {
namespace {

/// A probe's call may take this long at its roof, and is timed for so long; a variant that hangs is given up
/// soon.
constexpr double kLongest_s = 5e-3, kBudget_s = 30e-3, kTimeout_s = 5;
constexpr int64_t kShortest = 16;  // queries or keys

/// The machine of an earlier campaign.
struct EarlierMachine {
  std::string cpu;
  Roofs roofs;
};

std::optional<EarlierMachine> machine_of(const std::string& folder) {
  std::ifstream file(folder + "/environment.json");
  const auto environment = nlohmann::json::parse(file, nullptr, false);
  try {
    return EarlierMachine{environment.at("cpu").at("model").get<std::string>(),
                          roofs_from_json(environment.at("roofs"))};
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

/// One variant at one problem of the plan.
struct Probe {
  const Variant* variant;
  Problem problem;
  int threads;
  double roof_s;
};

double roof_or_zero(const Variant& variant, const Problem& problem, int threads, const Rates& rates) {
  return seconds_at_roof(variant, problem, threads, rates.roofs()).value_or(0);
}

/// Halves the lengths until a call is short; false where the mask does not allow that.
bool shorten(Probe& probe, const Rates& rates) {
  while (probe.roof_s > kLongest_s) {
    Problem& p = probe.problem;
    if (std::min(p.seq_q, p.seq_kv) / 2 < kShortest) return false;
    p.seq_q /= 2;
    p.seq_kv /= 2;
    try {
      p.validate();
    } catch (const UsageError&) {
      return false;
    }
    probe.roof_s = roof_or_zero(*probe.variant, p, probe.threads, rates);
  }
  return true;
}

/// Of two problems with the same settings: the longer of those that are short enough, else the shorter.
bool better(const Probe& one, const Probe& other) {
  const bool fits = one.roof_s <= kLongest_s, other_fits = other.roof_s <= kLongest_s;
  if (fits != other_fits) return fits;
  return fits ? one.roof_s > other.roof_s : one.roof_s < other.roof_s;
}

/// For every variant and setting that nothing is known of, one problem.
std::vector<Probe> choose_probes(const Plan& plan, LaunchMode launch, const Rates& rates) {
  std::map<std::pair<const Variant*, std::string>, Probe> best;
  for (const PlanPoint& point : plan.points) {
    if (!point.skipped.empty()) continue;
    for (const Variant* variant : point.variants) {
      const Problem& p = point.problem;
      if (!support_of(*variant, p, launch) || rates.knows(*variant, p, point.threads)) continue;
      const Probe probe{variant, p, point.threads, roof_or_zero(*variant, p, point.threads, rates)};
      const auto [place, is_new] = best.emplace(std::pair(variant, Rates::setting(p, point.threads)), probe);
      if (!is_new && better(probe, place->second)) place->second = probe;
    }
  }
  std::vector<Probe> chosen;
  for (auto& [key, probe] : best) {
    if (shorten(probe, rates)) chosen.push_back(probe);
  }
  return chosen;
}

/// Each variant runs for some milliseconds at one problem of each of its settings, in workers like those of
/// the campaign: checked, and lost alone where it crashes. Returns how many have a time.
size_t probe_plan(const Plan& plan, const CampaignOptions& options, Rates& rates) {
  std::map<std::pair<std::string, int>, Job> jobs;
  for (const Probe& probe : choose_probes(plan, options.launch, rates)) {
    const std::string text = probe.problem.text();
    Job& job = jobs[{text, probe.threads}];
    job = {.campaign = "probe",
           .point = "probe",
           .problem = text,
           .variants = std::move(job.variants),
           .threads = probe.threads,
           .fill = options.fill,
           .launch = options.launch,
           .seed = options.seed,
           .process = 1,  // checked as briefly as a later process: the campaign itself checks in full
           .budget_s = std::min(options.budget_s, kBudget_s),
           .memory_limit_bytes = options.memory_limit_bytes};
    job.variants.push_back(probe.variant->info().name);
  }
  size_t timed = 0;
  for (const auto& entry : jobs) {
    const Job& job = entry.second;
    supervise(job, std::min(options.timeout_s, kTimeout_s), [&](const Outcome& outcome) {
      if (outcome.row.status != Status::ok) return;
      rates.learn(pool(job, {outcome}, {}).row);
      ++timed;
    });
  }
  return timed;
}

}  // namespace

void check_rates_source(const std::string& source) {
  if (source == "probe" || source == "roof") return;
  if (std::filesystem::exists(source + "/results.csv") && machine_of(source)) return;
  throw UsageError(fmt::format(
      "--rates '{}' has no results.csv and environment.json with roofs: use probe, roof, or the folder of a "
      "campaign",
      source));
}

std::string learn_from(const std::string& source, const Plan& plan, const CampaignOptions& options,
                       Rates& rates) {
  if (source == "roof") return "times at the roofs until a row is measured";
  if (source == "probe")
    return fmt::format("rates from a probe of {} calls", probe_plan(plan, options, rates));
  check_rates_source(source);
  const EarlierMachine earlier = *machine_of(source);
  // Roofs are measured with some noise: on the same CPU it cancels where all times refer to the same roofs.
  const bool same_cpu = earlier.cpu == cpu_model();
  size_t rows = 0;
  for (const ResultRow& row : read_results(source + "/results.csv")) {
    rates.learn(row, same_cpu ? rates.roofs() : earlier.roofs);
    rows += row.status == Status::ok;
  }
  return fmt::format("rates from the {} rows of {}{}", rows, source,
                     same_cpu ? "" : ", of another CPU: scaled by the roofs");
}

}  // namespace attn
