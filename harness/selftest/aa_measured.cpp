// A/A on this machine: a small campaign, measured again and again into temporary folders.

#include <fmt/format.h>
#include <stdlib.h>

#include <filesystem>
#include <stdexcept>

#include "harness/campaign/campaign.h"
#include "harness/selftest/aa.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = fs::temp_directory_path() / "attnbench-aa-XXXXXX";
    if (!mkdtemp(pattern.data())) throw std::runtime_error("cannot create " + pattern);
    path_ = pattern;
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// Six points, a fifth of a second each and variant. One thread: where a neighbour takes a core, threads that
/// wait for each other run a hundred times as long, and what is on trial here is the statistics.
std::vector<Settings> small_sweeps(const std::string& variants) {
  return {{{"n", {"64", "128", "256"}},
           {"d", {"128"}},
           {"h", {"2"}},
           {"mask", {"none", "causal"}},
           {"device", {"cpu"}},
           {"threads", {"1"}},
           {"variants", {variants}}}};
}

CampaignData measure(const Plan& plan, const CampaignOptions& options, const fs::path& folder,
                     const fs::path& first) {
  fs::create_directories(folder);
  // The roofs of the first run serve all: a folder that has them is not measured for them again.
  if (folder != first) fs::copy_file(first / "environment.json", folder / "environment.json");
  if (const int code = run_campaign(plan, plan, options,
                                    {folder, "attnbench selftest --aa", "attnbench selftest --aa", ""})) {
    throw std::runtime_error(fmt::format("stopped with {}", code));
  }
  return read_campaign(folder);
}

void print_alarms(const Comparison& comparison, size_t i, size_t j) {
  for (const ComparedRow& row : comparison.rows) {
    if (row.verdict != "faster" && row.verdict != "slower") continue;
    fmt::print("runs {} and {}: {} {} by {:.3g} at {}\n", i, j, row.variant, row.verdict, *row.ratio,
               row.problem);
  }
}

}  // namespace

FalseAlarms measure_aa(int64_t runs, const std::string& variants) {
  const TemporaryFolder parent;
  const CampaignOptions options = parse_campaign({{"budget", {"0.2"}}, {"rates", {"roof"}}});
  const Plan plan = make_plan(small_sweeps(variants), options);
  std::vector<CampaignData> campaigns;
  for (int64_t k = 0; k < runs; ++k) {
    campaigns.push_back(measure(plan, options, parent.path() / fmt::format("{}", k), parent.path() / "0"));
  }
  FalseAlarms alarms{.name = fmt::format("{} runs of {} rows", runs, plan.rows())};
  for (size_t i = 0; i < campaigns.size(); ++i) {
    for (size_t j = i + 1; j < campaigns.size(); ++j) {
      const Comparison comparison = compare_campaigns(campaigns[i], campaigns[j], kAaThreshold);
      print_alarms(comparison, i, j);
      count_alarms(alarms, comparison);
    }
  }
  return alarms;
}

}  // namespace attn
