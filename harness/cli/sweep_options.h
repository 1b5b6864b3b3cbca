#pragma once
// The options that say what a campaign measures: those of sweep, plan and slurm.

#include <CLI/CLI.hpp>
#include <memory>
#include <string>
#include <vector>

#include "harness/campaign/plan.h"

namespace attn {

struct SweepOptions {
  Settings given;  ///< filled by CLI11, one list per key
  std::string preset;

  /// Throws UsageError.
  Preset resolve() const;
  /// The options again, as words for a command line.
  std::vector<std::string> words() const;
  /// "quick" for a preset, else "sweep": for the name of a folder.
  std::string name() const;
};

/// Options, parsed, with the plan they ask for.
struct PlannedCampaign {
  CampaignOptions options;
  Plan plan;

  explicit PlannedCampaign(const SweepOptions& options);
  /// out/NAME-HASH, the same for the same campaign.
  std::string default_folder(const std::string& name) const;
};

/// `--preset` and an option for every setting. The result is filled when the command line is parsed.
std::shared_ptr<SweepOptions> add_sweep_options(CLI::App& command);

}  // namespace attn
