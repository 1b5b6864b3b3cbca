#include "harness/campaign/protocol.h"

#include <chrono>
#include <nlohmann/json.hpp>

namespace attn {
namespace {

int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

nlohmann::json to_json(const RoofLimits& roofs) {
  nlohmann::json levels = nlohmann::json::array();
  for (const MemoryLevel& level : roofs.levels) levels.push_back({level.bytes, level.read_bytes_per_s});
  return {{"fma_flops_per_s", roofs.fma_flops_per_s}, {"exps_per_s", roofs.exps_per_s}, {"levels", levels}};
}

RoofLimits parse_roofs(const nlohmann::json& json) {
  RoofLimits roofs;
  json.at("fma_flops_per_s").get_to(roofs.fma_flops_per_s);
  json.at("exps_per_s").get_to(roofs.exps_per_s);
  for (const auto& level : json.at("levels")) {
    roofs.levels.push_back({level.at(0).get<double>(), level.at(1).get<double>()});
  }
  return roofs;
}

}  // namespace

std::string Job::to_text() const {
  nlohmann::json of_gpu = nlohmann::json::object();
  for (const auto& [variant, limits] : gpu_roofs) of_gpu[variant] = to_json(limits);
  return nlohmann::json({{"campaign", campaign},
                         {"point", point},
                         {"problem", problem},
                         {"variants", variants},
                         {"baseline", baseline},
                         {"threads", threads},
                         {"fill", attn::to_text(fill)},
                         {"launch", attn::to_text(launch)},
                         {"seed", seed},
                         {"process", process},
                         {"processes", processes},
                         {"budget_s", budget_s},
                         {"target", target},
                         {"memory_limit_bytes", memory_limit_bytes},
                         {"roofs", to_json(roofs)},
                         {"gpu_roofs", of_gpu},
                         {"time_s_predicted", time_s_predicted}})
      .dump();
}

Job Job::parse(const std::string& text) {
  const auto json = nlohmann::json::parse(text);
  Job job;
  json.at("campaign").get_to(job.campaign);
  json.at("point").get_to(job.point);
  json.at("problem").get_to(job.problem);
  json.at("variants").get_to(job.variants);
  json.at("baseline").get_to(job.baseline);
  json.at("threads").get_to(job.threads);
  job.fill = parse_fill(json.at("fill").get<std::string>());
  job.launch = parse_launch(json.at("launch").get<std::string>());
  json.at("seed").get_to(job.seed);
  json.at("process").get_to(job.process);
  json.at("processes").get_to(job.processes);
  json.at("budget_s").get_to(job.budget_s);
  json.at("target").get_to(job.target);
  json.at("memory_limit_bytes").get_to(job.memory_limit_bytes);
  job.roofs = parse_roofs(json.at("roofs"));
  for (const auto& [variant, limits] : json.at("gpu_roofs").items()) {
    job.gpu_roofs[variant] = parse_roofs(limits);
  }
  json.at("time_s_predicted").get_to(job.time_s_predicted);
  return job;
}

std::string Outcome::samples_csv() const {
  std::string text;
  for (const SampleRow& sample : samples) text += to_csv(sample);
  return text;
}

std::string Outcome::to_line() const {
  nlohmann::json list = nlohmann::json::array();
  for (const SampleRow& sample : samples) {
    const nlohmann::json clock = sample.clock_hz ? nlohmann::json(*sample.clock_hz) : nlohmann::json(nullptr);
    list.push_back({sample.round, sample.sample, sample.time_s, clock, sample.cache, sample.throttled});
  }
  // Reasons may quote anything a variant threw: invalid UTF-8 is replaced, not fatal.
  const nlohmann::json json = {{"row", to_csv(row)}, {"samples", list}, {"variant_s", variant_s}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + '\n';
}

Outcome Outcome::parse(std::string_view line) {
  const auto json = nlohmann::json::parse(line);
  Outcome outcome;
  std::string row = json.at("row").get<std::string>();
  if (!row.empty() && row.back() == '\n') row.pop_back();
  outcome.row = result_from_csv(row, "worker");
  json.at("variant_s").get_to(outcome.variant_s);
  for (const auto& entry : json.at("samples")) {
    SampleRow& sample = outcome.samples.emplace_back();
    sample.point = outcome.row.point;
    sample.variant = outcome.row.variant;
    entry.at(0).get_to(sample.round);
    entry.at(1).get_to(sample.sample);
    entry.at(2).get_to(sample.time_s);
    if (!entry.at(3).is_null()) sample.clock_hz = entry.at(3).get<double>();
    entry.at(4).get_to(sample.cache);
    entry.at(5).get_to(sample.throttled);
  }
  return outcome;
}

std::string to_text(Step step) {
  switch (step) {
    case Step::inputs:
      return "making the inputs";
    case Step::oracle:
      return "solving the oracle";
    case Step::bind:
      return "allocating and preparing";
    case Step::check:
      return "the checked run";
    case Step::warm_up:
      return "the warm-up";
    case Step::time:
      return "timing";
    case Step::verify:
      return "the check after timing";
    case Step::latency:
      return "calls of an idle device";
  }
  return "?";
}

void add_times(StepTimes& sum, const StepTimes& times) {
  for (size_t k = 0; k < kSteps; ++k) sum[k] += times[k];
}

void Board::announce(int32_t which, Step what) {
  const int64_t now = now_ns(), since = since_ns.load();
  if (since != 0) spent_ns[static_cast<size_t>(step.load())] += now - since;
  variant.store(which);
  step.store(what);
  since_ns.store(now);
}

StepTimes Board::step_times() const {
  StepTimes times;
  for (size_t k = 0; k < kSteps; ++k) times[k] = 1e-9 * static_cast<double>(spent_ns[k].load());
  times[static_cast<size_t>(step.load())] += seconds_in_step();
  return times;
}

double Board::seconds_in_step() const { return static_cast<double>(now_ns() - since_ns.load()) * 1e-9; }

}  // namespace attn
