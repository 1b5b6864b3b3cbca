#include "harness/campaign/merge.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>

#include "harness/campaign/part.h"
#include "harness/campaign/plan.h"
#include "harness/campaign/plan_file.h"
#include "harness/problem/error.h"
#include "harness/problem/text.h"
#include "harness/results/append_file.h"

namespace attn {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

constexpr const char* kMixedShare = "mixed machines";

/// The same plan, measured the same way, in the same version.
void require_same_campaign(const CampaignPart& first, const CampaignPart& other) {
  for (const auto& [key, value] : first.campaign.items()) {
    static const std::set<std::string> of_one_part = {"id", "share", "build", "cpu"};
    if (of_one_part.count(key) || other.campaign.value(key, json()) == value) continue;
    throw UsageError(
        fmt::format("{} and {} hold different campaigns: their {} differs; shards need the same options, "
                    "--threads included",
                    first.folder, other.folder, key));
  }
}

/// Gives every part the name of its kind of machine and build; empty names where all are of one kind.
std::vector<std::string> name_machines(std::vector<CampaignPart>& parts, bool mixed) {
  std::map<std::string, std::string> names;  // by kind
  std::set<std::string> taken;
  for (const CampaignPart& part : parts) {
    const std::string kind = part.kind().dump();
    if (names.count(kind)) continue;
    if (!names.empty() && !mixed) {
      throw UsageError(
          fmt::format("{} and {} come from different machines or builds: their {} differs; --mixed joins "
                      "them and keeps them apart",
                      parts.front().folder, part.folder, parts.front().difference(part)));
    }
    std::string name = part.machine_name();
    for (int k = 2; taken.count(name); ++k) name = fmt::format("{} #{}", part.machine_name(), k);
    taken.insert(name);
    names[kind] = name;
  }
  if (names.size() < 2) return {};
  for (CampaignPart& part : parts) part.machine = names[part.kind().dump()];
  return {taken.begin(), taken.end()};
}

/// The id that a point has beside the same point of another machine.
std::string point_of(const CampaignPart& part, const std::string& point) {
  if (part.machine.empty()) return point;
  return fmt::format("p{}", hash_text(fmt::format("{}|machine={}", point, part.machine)));
}

class Merge {
 public:
  Merge(std::vector<CampaignPart> parts, std::string out, const MergeOptions& options)
      : parts_(std::move(parts)), out_(std::move(out)), options_(options) {
    for (const CampaignPart& part : parts_) require_same_campaign(parts_.front(), part);
    report_.parts = parts_.size();
    report_.machines = name_machines(parts_, options_.mixed);
    plan_ = read_plan_lines(parts_.front().folder + "/plan.csv");
  }

  MergeReport run() {
    for (const CampaignPart& part : parts_) take_rows(part);
    order_rows();
    const std::string missing = out_ + "/missing.csv";
    if (report_.missing.empty()) {
      fs::remove(missing);
    } else {
      replace_file(missing, fmt::format("{}\n{}\n", Plan::kColumns, fmt::join(report_.missing, "\n")));
      report_.rerun_command = fmt::format("{} {}", parts_.front().campaign_command(),
                                          shell_line({"--points", missing, "--out", out_ + "/missing"}));
    }
    if (report_.missing.empty() || options_.partial) write();
    return std::move(report_);
  }

 private:
  struct Kept {
    ResultRow row;
    std::vector<SampleRow> samples;
  };
  using Key = std::tuple<std::string, std::string, std::string>;  ///< point, variant, machine

  void take_rows(const CampaignPart& part) {
    std::map<RowKey, std::vector<SampleRow>> samples = part.samples();
    for (ResultRow row : part.rows()) {
      const Key key{row.point, row.variant, part.machine};
      const RowKey sampled{row.point, row.variant};
      row.machine = part.machine;
      row.point = point_of(part, row.point);
      const auto found = kept_.find(key);
      if (found != kept_.end()) {
        note_repeated(found->second.row, row, part);
        continue;
      }
      Kept& kept = kept_[key];
      kept.samples = std::move(samples[sampled]);
      for (SampleRow& sample : kept.samples) sample.point = row.point;
      kept.row = std::move(row);
    }
  }

  void note_repeated(const ResultRow& first, const ResultRow& row, const CampaignPart& part) {
    if (to_csv(first) == to_csv(row)) return;  // a copy
    ++report_.repeated_rows;
    if (to_csv(exact_part(first)) == to_csv(exact_part(row))) return;
    report_.differing.push_back(fmt::format("{} at {} ({})", row.variant, row.problem, part.folder));
  }

  /// The plan's order, whatever the order of the folders; the machines in that of their names.
  void order_rows() {
    std::map<std::pair<std::string, std::string>, std::vector<const Key*>> by_point;
    for (const auto& [key, kept] : kept_) by_point[{std::get<0>(key), std::get<1>(key)}].push_back(&key);
    for (const PlanLine& point : plan_) {
      std::vector<std::string> absent;
      for (const std::string& variant : point.variants) {
        ++report_.planned_rows;
        const auto found = by_point.find({point.id, variant});
        if (found == by_point.end()) {
          absent.push_back(variant);
          continue;
        }
        order_.insert(order_.end(), found->second.begin(), found->second.end());
        by_point.erase(found);
      }
      if (!absent.empty())
        report_.missing.push_back(PlanLine{point.id, point.threads, point.problem, absent}.csv());
    }
    if (!by_point.empty()) {
      throw UsageError(fmt::format("{} at {} is in the results, but not in the plan",
                                   by_point.begin()->first.second, by_point.begin()->first.first));
    }
    report_.rows = order_.size();
  }

  void write() {
    std::string rows = results_header(), samples = samples_header();
    for (const Key* key : order_) {
      const Kept& kept = kept_.at(*key);
      rows += to_csv(kept.row);
      for (const SampleRow& sample : kept.samples) samples += to_csv(sample);
    }
    json campaign = parts_.front().campaign;
    campaign.erase("share");
    if (!report_.machines.empty()) campaign["share"] = kMixedShare;
    claim_folder(out_, campaign.dump());
    replace_file(out_ + "/plan.csv", fmt::format("{}\n{}\n", Plan::kColumns, fmt::join(plan_lines(), "\n")));
    replace_file(out_ + "/environment.json", join_environments(parts_).dump(2) + "\n");
    replace_file(out_ + "/samples.csv", samples);  // before the rows, as a sweep does
    replace_file(out_ + "/results.csv", rows);
    report_.written = true;
  }

  std::vector<std::string> plan_lines() const {
    std::vector<std::string> lines;
    for (const PlanLine& point : plan_) lines.push_back(point.csv());
    return lines;
  }

  std::vector<CampaignPart> parts_;
  std::string out_;
  MergeOptions options_;
  std::vector<PlanLine> plan_;
  std::map<Key, Kept> kept_;
  std::vector<const Key*> order_;
  MergeReport report_;
};

bool is_among(const std::string& folder, const std::vector<std::string>& folders) {
  return std::any_of(folders.begin(), folders.end(), [&](const std::string& other) {
    return fs::exists(other) && fs::equivalent(folder, other);
  });
}

}  // namespace

MergeReport merge_folders(const std::vector<std::string>& folders, const std::string& out,
                          const MergeOptions& options) {
  std::vector<CampaignPart> parts(folders.begin(), folders.end());
  fs::create_directories(out);
  const FolderLock lock(out);
  if (fs::exists(out + "/results.csv") && !is_among(out, folders))
    parts.emplace_back(out);  // nothing there is lost
  for (const CampaignPart& part : parts) {
    if (part.campaign.value("share", "") == kMixedShare) {
      throw UsageError(part.folder +
                       " joins several machines already: merge the folders it came from, into another --out");
    }
  }
  return Merge(std::move(parts), out, options).run();
}

}  // namespace attn
