#include "harness/campaign/campaign.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <set>

#include "harness/campaign/forecast.h"
#include "harness/campaign/pool.h"
#include "harness/campaign/probe.h"
#include "harness/campaign/progress.h"
#include "harness/campaign/resume.h"
#include "harness/campaign/row.h"
#include "harness/campaign/supervisor.h"
#include "harness/measure/environment.h"
#include "harness/measure/host_load.h"
#include "harness/measure/nvml.h"
#include "harness/measure/roofs.h"
#include "harness/results/append_file.h"
#include "harness/run/binding.h"

namespace attn {
namespace {

using nlohmann::json;

/// Everything that decides what a row says. Time-outs and memory limits do not: they only decide which rows
/// fail.
json configuration(const Plan& plan, const CampaignOptions& options) {
  json config = {{"schema", kSchemaVersion},
                 {"plan", hash_text(plan.csv())},
                 {"rows", plan.rows()},
                 {"baseline", options.baseline},
                 {"fill", to_text(options.fill)},
                 {"seed", options.seed},
                 {"budget_s", options.budget_s},
                 {"target", options.target},
                 {"processes", options.processes},
                 {"build", build_commit()},
                 {"cpu", cpu_model()}};
  config["launch"] = to_text(options.launch);
  config["id"] = fmt::format("c{}", hash_text(config.dump()));
  return config;
}

std::vector<int> thread_counts(const Plan& plan) {
  std::set<int> counts;
  for (const PlanPoint& point : plan.points) counts.insert(point.threads);
  return {counts.begin(), counts.end()};
}

/// environment.json: what the machine is, and one entry per session that measured into the folder.
class EnvironmentFile {
 public:
  EnvironmentFile(const CampaignFolder& folder, const Plan& share, size_t memory_limit_bytes)
      : path_(folder.path + "/environment.json"), load_(read_host_load()) {
    json sessions = json::array();
    if (std::ifstream file(path_); file) {
      content_ = json::parse(file, nullptr, false);
      if (content_.is_object()) sessions = content_.value("sessions", sessions);
    }
    // All rows of a folder are held against the same roofs.
    const json roofs = content_.is_object() ? content_.value("roofs", json()) : json();
    roofs_ =
        roofs.is_object() ? roofs_from_json(roofs) : measure_roofs(thread_counts(share), share.uses_gpu());
    content_ = describe_environment();
    content_["schema"] = kSchemaVersion;
    content_["roofs"] = to_json(roofs_);
    sessions.push_back({{"command_line", folder.command_line},
                        {"campaign_command", folder.campaign_command},
                        {"node", node_name()},
                        {"memory_limit_bytes", memory_limit_bytes},
                        {"start", timestamp()},
                        {"end", nullptr},
                        {"gpu_start", gpu_state()},
                        {"gpu_end", nullptr}});
    content_["sessions"] = sessions;
    content_["command_line"] = sessions.front()["command_line"];
    write();
  }

  const Roofs& roofs() const { return roofs_; }

  /// `variants_s`: seconds in the calls of variants; the rest of wall_s is the harness's own.
  void close(double variants_s, const StepTimes& steps) {
    json& session = content_["sessions"].back();
    const HostLoad now = read_host_load();
    session["end"] = timestamp();
    const std::chrono::duration<double> wall = std::chrono::steady_clock::now() - start_;
    session["wall_s"] = wall.count();
    session["variants_s"] = variants_s;
    fmt::print("{:.3g} s, {:.3g} % of it outside the variants\n", wall.count(),
               100 * (1 - variants_s / wall.count()));
    for (size_t k = 0; k < kSteps; ++k) session["steps_s"][to_text(static_cast<Step>(k))] = steps[k];
    session["steal_fraction"] = number_or_null(steal_fraction(load_, now));
    session["cpu_pressure"] = number_or_null(cpu_pressure(load_, now));
    session["gpu_end"] = gpu_state();
    write();
  }

 private:
  void write() {
    content_["start"] = content_["sessions"].front()["start"];
    content_["end"] = content_["sessions"].back()["end"];
    replace_file(path_, content_.dump(2) + "\n");
  }

  static json number_or_null(const std::optional<double>& value) { return value ? json(*value) : json(); }

  std::string path_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  HostLoad load_;
  json content_;
  Roofs roofs_;
};

class CampaignRun {
 public:
  CampaignRun(const Plan& share, const std::string& id, const CampaignOptions& options,
              const CampaignFolder& folder)
      : plan_(share),
        options_(options),
        id_(id),
        results_(folder.path + "/results.csv", results_header()),
        finished_(finished_rows(folder.path)) {
    const size_t dropped = drop_unfinished_samples(folder.path, finished_);
    samples_.emplace(folder.path + "/samples.csv", samples_header());
    if (results_.torn_bytes() > 0) {
      fmt::print("results.csv ended in a torn line of {} bytes: its row is measured again\n",
                 results_.torn_bytes());
    }
    if (!finished_.empty()) fmt::print("{} rows are there already\n", finished_.size());
    if (dropped > 0) fmt::print("{} samples of unfinished rows are dropped and measured again\n", dropped);
  }

  int run(const CampaignFolder& folder) {
    const SignalWatch watch;
    if (finished_.size() >= plan_.rows()) {
      fmt::print("every row has been measured: give another --out to measure again\n");
      return 0;
    }
    fmt::print("measuring the roofs\n");
    EnvironmentFile environment(folder, plan_, options_.memory_limit_bytes);
    if (plan_.uses_gpu() && device_missing(Device::cuda).empty() && !gpu_monitor().missing().empty()) {
      fmt::print("the GPU's clock, power and temperature stay empty: {}\n", gpu_monitor().missing());
    }
    rates_.emplace(environment.roofs());
    Progress progress(plan_.rows(), finished_.size(), stdout);
    int exit_code = 0;
    try {
      forecast(folder, progress);
      for (const PlanPoint& point : plan_.points) run_point_job(point, environment, progress);
    } catch (const Interrupted& interrupted) {
      exit_code = 128 + interrupted.signal;
    } catch (...) {  // a full disk, say: what is written stays
      progress.close();
      throw;
    }
    progress.close();
    environment.close(variants_s_, steps_);
    if (exit_code) fmt::print("stopped; the same command goes on from here\n");
    return exit_code;
  }

 private:
  Job job_of(const PlanPoint& point, const EnvironmentFile& environment) const {
    Job job{.campaign = id_,
            .point = point.id,
            .problem = point.text,
            .baseline = options_.baseline,
            .threads = point.threads,
            .fill = options_.fill,
            .launch = options_.launch,
            .seed = options_.seed,
            .processes = options_.processes,
            .budget_s = options_.budget_s,
            .target = options_.target,
            .memory_limit_bytes = options_.memory_limit_bytes,
            .roofs = environment.roofs().limits(point.threads)};
    const auto is_missing = [&](const Variant* variant) {
      return !finished_.contains({point.id, variant->info().name});
    };
    if (std::none_of(point.variants.begin(), point.variants.end(), is_missing)) return job;
    for (const Variant* variant : point.variants) {
      if (!is_missing(variant) && !serves_as_baseline(point, *variant)) continue;
      const std::string& name = variant->info().name;
      job.variants.push_back(name);
      if (!point.skipped.empty() || !support_of(*variant, point.problem, options_.launch)) continue;
      if (variant->info().device == Device::cuda) {
        job.gpu_roofs[name] = environment.roofs().limits(*variant, point.problem, point.threads);
      }
      const TimeForecast call = rates_->predict(*variant, point.problem, point.threads);
      if (call.time_s) job.time_s_predicted[name] = *call.time_s;
    }
    return job;
  }

  /// Has its row already, and is measured again only for the ratios of the others.
  bool serves_as_baseline(const PlanPoint& point, const Variant& variant) const {
    const auto found = finished_.find({point.id, variant.info().name});
    return variant.info().name == options_.baseline && found != finished_.end() &&
           found->second == Status::ok;
  }

  /// Learns what is known before the first point, and tells the progress how long the rest will take.
  void forecast(const CampaignFolder& folder, Progress& progress) {
    for (const ResultRow& row : read_results(folder.path + "/results.csv")) rates_->learn(row);
    const std::string source = learn_from(options_.rates, plan_, options_, *rates_);
    double total_s = 0;
    for (const PlanPoint& point : plan_.points) {
      for (const Variant* variant : point.variants) {
        const RowKey key{point.id, variant->info().name};
        if (finished_.contains(key)) continue;
        const double seconds = expected_row_s(point, *variant, options_, *rates_);
        progress.expect(key, seconds);
        total_s += seconds;
      }
    }
    fmt::print("{}; ETA {}\n", source, human_time(total_s));
  }

  void run_point_job(const PlanPoint& point, const EnvironmentFile& environment, Progress& progress) {
    const Job job = job_of(point, environment);
    if (job.variants.empty()) return;
    if (SignalWatch::caught()) throw Interrupted{SignalWatch::caught()};
    const auto emit = [&](const Outcome& outcome) {
      if (finished_.contains({point.id, outcome.row.variant})) return;
      samples_->append(outcome.samples_csv());
      results_.append(to_csv(outcome.row));
      rates_->learn(outcome.row);
      progress.finish_row(outcome.row);
    };
    if (!point.skipped.empty()) return skip(point, job, emit);
    progress.start_point(point.text);
    measure(job, emit);
  }

  /// In several processes, one after another. A variant that fails in one has its row at once and no part in
  /// the next; the others have theirs when all processes have ended.
  template <class Emit>
  void measure(Job job, const Emit& emit) {
    std::map<std::string, std::vector<Outcome>> measured;
    for (job.process = 0; job.process < job.processes && !job.variants.empty(); ++job.process) {
      std::set<std::string> failed;
      const StepTimes steps = supervise(job, options_.timeout_s, [&](const Outcome& outcome) {
        variants_s_ += outcome.variant_s;
        if (outcome.row.status == Status::ok) {
          measured[outcome.row.variant].push_back(outcome);
        } else {
          failed.insert(outcome.row.variant);
          emit(outcome);
        }
      });
      add_times(steps_, steps);
      std::erase_if(job.variants, [&](const std::string& variant) { return failed.contains(variant); });
    }
    const auto of = [&](const std::string& variant) {
      const bool complete =
          std::find(job.variants.begin(), job.variants.end(), variant) != job.variants.end();
      return complete ? measured.at(variant) : std::vector<Outcome>{};
    };
    for (const std::string& variant : job.variants) emit(pool(job, of(variant), of(job.baseline)));
  }

  template <class Emit>
  void skip(const PlanPoint& point, const Job& job, const Emit& emit) const {
    for (const std::string& name : job.variants) {
      const auto is_named = [&](const Variant* variant) { return variant->info().name == name; };
      const Variant& variant = **std::find_if(point.variants.begin(), point.variants.end(), is_named);
      Outcome outcome;
      outcome.row = describe_skipped(job, point.problem, variant);
      outcome.row.d_model = point.d_model;
      outcome.row.status = Status::skipped;
      outcome.row.reason = point.skipped;
      emit(outcome);
    }
  }

  const Plan& plan_;
  const CampaignOptions& options_;
  std::string id_;
  AppendFile results_;
  std::map<RowKey, Status> finished_;
  double variants_s_ = 0;
  StepTimes steps_{};
  std::optional<AppendFile> samples_;
  std::optional<Rates> rates_;
};

}  // namespace

std::string campaign_id(const Plan& plan, const CampaignOptions& options) {
  return configuration(plan, options)["id"].get<std::string>();
}

int run_campaign(const Plan& plan, const Plan& share, const CampaignOptions& options,
                 const CampaignFolder& folder) {
  std::signal(SIGXFSZ, SIG_IGN);  // a limit of file sizes is then an error of write(2), which names the file
  std::filesystem::create_directories(folder.path);
  const FolderLock lock(folder.path);
  json config = configuration(plan, options);
  const std::string id = config["id"];
  if (!folder.share.empty()) config["share"] = folder.share;
  claim_folder(folder.path, config.dump());
  replace_file(folder.path + "/plan.csv", plan.csv());
  return CampaignRun(share, id, options, folder).run(folder);
}

}  // namespace attn
