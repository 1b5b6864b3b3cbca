#pragma once
// What a campaign will measure: the cross product of each sweep's axes, points in a fixed order, each with
// its variants.

#include <optional>
#include <string>
#include <vector>

#include "harness/campaign/preset.h"
#include "harness/run/inputs.h"
#include "harness/run/launch.h"
#include "harness/variant.h"

namespace attn {

/// Settings of the whole campaign, parsed.
struct CampaignOptions {
  std::string baseline;  ///< empty: none
  Fill fill = Fill::normal;
  LaunchMode launch = LaunchMode::stream;
  uint64_t seed = 1;
  double budget_s = 2;
  double target = 0.02;  ///< half-width of the interval that ends the sampling, relative
  int processes = 2;     ///< that measure a point, one after another
  double timeout_s = 120;
  size_t memory_limit_bytes = 0;
  std::string rates = "probe";  ///< where forecasts of times start from: harness/campaign/probe.h
};
/// Throws UsageError.
CampaignOptions parse_campaign(const Settings& settings);

struct PlanPoint {
  std::string id;    ///< "p" and a hash of problem, threads, seed and fill: the same in every campaign
  Problem problem;   ///< where skipped: shape as far as it is known
  std::string text;  ///< canonical text; where skipped: the axes
  int64_t d_model = 0;
  int threads = 1;
  std::vector<const Variant*> variants;
  std::string skipped;  ///< why there is no such problem; empty otherwise

  std::string csv() const;  ///< its line of plan.csv, without the end
};

struct Plan {
  static constexpr const char* kColumns = "point,threads,problem,variants";
  std::vector<PlanPoint> points;

  size_t rows() const;
  bool uses_gpu() const;    ///< at a point that is not skipped
  std::string csv() const;  ///< plan.csv
};

/// Throws UsageError for malformed axes, and for graphs where no variant is of a GPU. A combination that is
/// no valid problem is a skipped point.
Plan make_plan(const std::vector<Settings>& sweeps, const CampaignOptions& options);

/// 16 hexadecimal digits of a 64-bit hash (FNV-1a) of the text.
std::string hash_text(std::string_view text);

}  // namespace attn
