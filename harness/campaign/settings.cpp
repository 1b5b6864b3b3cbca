#include "harness/campaign/settings.h"

namespace attn {

const std::vector<SettingKey>& setting_keys() {
  static const std::vector<SettingKey> keys = {
      {"n", true, true, "LENGTHS",
       "Numbers of queries, as numbers or ranges: 128:16384:x2 doubles, 64:512:+64 adds.", "1024"},
      {"d", true, true, "WIDTHS",
       "Model widths. The heads split the width, so d_head = d / h; where that leaves a remainder the point "
       "is a row "
       "with status skipped.",
       "512"},
      {"h", true, true, "HEADS", "Numbers of query heads.", "8"},
      {"d-head", true, true, "WIDTHS",
       "Widths of one head. Given instead of --d: the head width is held and the model width is h * d_head.",
       nullptr},
      {"d-value", true, true, "WIDTHS",
       "Widths of one head's values, where they differ, as in latent attention. Default: d_head.", nullptr},
      {"hk", true, true, "HEADS",
       "Numbers of key/value heads (grouped-query attention). Default: as many as h.", nullptr},
      {"group", true, true, "SIZES",
       "Query heads per key/value head, instead of --hk; --group must divide h.", nullptr},
      {"batch", true, true, "SIZES", "Batch sizes.", "1"},
      {"nk", true, true, "LENGTHS", "Numbers of keys (cross attention). Default: as many as n.", nullptr},
      {"mask", true, true, "MASKS",
       "Masks, separated by spaces: none, causal, causal:topleft, window:L:R, padding:A/B, document:L/M, "
       "blocks:FILE, or an intersection such as causal+window:255:0.",
       "none"},
      {"pos", true, true, "POSITIONS",
       "Relative positions, separated by spaces: none, shaw:K, shaw-keys:K, alibi, t5:BUCKETS:MAX, "
       "t5-causal:BUCKETS:MAX, rope:BASE, rope-interleaved:BASE.",
       "none"},
      {"dtype", true, true, "TYPES", "Storage types of the tensors: f32, bf16, f16.", "f32"},
      {"pass", true, true, "PASSES", "Passes: fwd, bwd.", "fwd"},
      {"scope", true, true, "SCOPES",
       "core times attention alone, block the whole layer: projections of x, core, output projection.",
       "core"},
      {"problem", true, true, "TEXTS",
       "Complete problems in their canonical text, instead of the axes above: the text of the problem "
       "column.",
       nullptr},
      {"variants", true, false, "REGEX", "Only variants whose name or tag contains a match. Default: all.",
       ""},
      {"device", true, false, "DEVICE", "Only variants of this device: cpu, cuda or all.", "all"},
      {"threads", true, true, "COUNTS", "Numbers of CPU threads. Default: every CPU this process may use.",
       nullptr},
      {"baseline", false, false, "NAME",
       "The variant that ratio_to_baseline compares with, round by round. Where a point has no such variant "
       "the ratio "
       "is empty.",
       nullptr},
      {"fill", false, false, "NAME",
       "Distribution of q, k and v: normal, uniform, flat, peaked, integers, ones, overflow, late_max.",
       "normal"},
      {"launch", false, false, "MODE",
       "How calls of a GPU variant are checked and timed: stream enqueues them one by one, graph replays a "
       "CUDA graph of one call, captured once for each set of operands. What cannot be captured, and every "
       "variant of a CPU, becomes a row with status unsupported.",
       "stream"},
      {"seed", false, false, "NUMBER", "Seed of the inputs and of the order within a round.", "1"},
      {"budget", false, false, "SECONDS",
       "Timed seconds per point and variant, at most, over all its processes; a variant stops earlier where "
       "its "
       "answer is within --target.",
       "2"},
      {"target", false, false, "PERCENT",
       "Half-width of the 95 % interval that ends the sampling: of the ratio to the baseline, or of the "
       "median where "
       "there is none.",
       "2"},
      {"processes", false, false, "NUMBER",
       "Processes that measure a point, one after another, and share its budget: times differ between "
       "processes by "
       "more than within one.",
       "2"},
      {"timeout", false, false, "SECONDS",
       "Seconds one step of a point (solving the oracle, one checked run, one sample) may take before the "
       "variant at "
       "work becomes a row with status timed_out.",
       "120"},
      {"rates", false, false, "SOURCE",
       "Where forecasts of times start from: probe runs every variant for some milliseconds in each setting "
       "first, "
       "roof takes the least time by the roofs, and a folder is that of an earlier campaign. Rows measured "
       "meanwhile count as well.",
       "probe"},
      {"memory-limit", false, false, "BYTES",
       "Bytes a point may need, with suffix K, M or G; a variant predicted to need more becomes a row with "
       "status "
       "out_of_memory. Default: 80 % of the memory available.",
       nullptr},
  };
  return keys;
}

const SettingKey* find_setting(std::string_view name) {
  for (const SettingKey& key : setting_keys()) {
    if (key.name == name) return &key;
  }
  return nullptr;
}

std::vector<std::string> values_of(const Settings& settings, const std::string& key) {
  const auto found = settings.find(key);
  if (found != settings.end()) return found->second;
  const SettingKey* known = find_setting(key);
  if (known && known->otherwise) return {known->otherwise};
  return {};
}

std::string value_of(const Settings& settings, const std::string& key) {
  const auto values = values_of(settings, key);
  return values.empty() ? "" : values.back();
}

}  // namespace attn
