#pragma once
// What a folder holds already. A row in results.csv means its (point, variant) is done: samples are written
// before the row, so samples without a row belong to something unfinished and are dropped.

#include <map>
#include <string>
#include <utility>

#include "harness/results/schema.h"

namespace attn {

using RowKey = std::pair<std::string, std::string>;  ///< point, variant

/// What became of the rows of DIR/results.csv; empty where there is no such file. Throws UsageError for a key
/// twice.
std::map<RowKey, Status> finished_rows(const std::string& folder);
/// Rewrites DIR/samples.csv without samples of other keys; returns how many were dropped.
size_t drop_unfinished_samples(const std::string& folder, const std::map<RowKey, Status>& finished);
/// Creates DIR/campaign.json with the configuration, or compares with the one there: throws UsageError that
/// names the first difference.
void claim_folder(const std::string& folder, const std::string& configuration_json);

}  // namespace attn
