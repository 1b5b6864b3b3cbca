#pragma once
// Joins folders of one campaign, measured in shares on many machines, into one folder like that of a sweep:
// results.csv in the plan's order, samples.csv, plan.csv, campaign.json, environment.json.

#include <string>
#include <vector>

namespace attn {

struct MergeOptions {
  bool mixed = false;    ///< folders of different machines or builds may be joined
  bool partial = false;  ///< write the folder although rows are missing
};

struct MergeReport {
  size_t parts = 0;                    ///< folders read
  size_t rows = 0, planned_rows = 0;   ///< kept; in the plan
  size_t repeated_rows = 0;            ///< left out: the first of rows with one key counts
  std::vector<std::string> differing;  ///< repeated rows that differ where no two runs may
  std::vector<std::string> machines;   ///< kinds of machine and build, if there are several
  std::vector<std::string> missing;    ///< lines of plan.csv with the variants that have no row
  std::string rerun_command;           ///< measures the points in missing.csv
  bool written = false;
};

/// Reads `folders` and writes `out`; what `out` holds already is the last of the parts. A key is (point,
/// variant). Where machines are mixed, a key holds once for each, rows name their machine, and points get ids
/// of their own for each machine. Missing points go to OUT/missing.csv; without `partial` nothing else is
/// written then. Throws UsageError where a folder is no part of the same campaign, or machines are mixed
/// unasked.
MergeReport merge_folders(const std::vector<std::string>& folders, const std::string& out,
                          const MergeOptions& options);

}  // namespace attn
