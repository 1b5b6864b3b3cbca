#pragma once
// Time of one call, forecast: seconds at the roofs over an efficiency. The efficiency is that of the nearest
// problem measured so far with the same variant; before anything is measured it is 1.
//
// Near means: settings count first (pass and scope, storage type, kinds of mask and of position), then shape
// and threads, by octaves. Measured in results/{quick,scaling-n,scaling-h,cpu-peers,cpu-limit}, each row
// forecast from those before it: the median error is 4 to 7 %, 9 of 10 rows are within 30 %. Following the
// trend of the two nearest was no better (4 to 9 %).

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "harness/measure/roofs.h"
#include "harness/results/schema.h"
#include "harness/variant.h"

namespace attn {

/// Least seconds of one call at the roofs: declared FLOPs, exponentials or bytes, whichever takes longest,
/// with operands and workspace held. Nothing where the roofs of the variant's device are not known.
std::optional<double> seconds_at_roof(const Variant& variant, const Problem& problem, int threads,
                                      const Roofs& roofs);

struct TimeForecast {
  std::optional<double> time_s;  ///< of one call; nothing where neither a row nor the roof is known
  bool measured = false;         ///< from a measured row; otherwise the roof itself
};

class Rates {
 public:
  /// `roofs` of the machine that will run what is forecast.
  explicit Rates(Roofs roofs) : roofs_(std::move(roofs)) {}

  /// Learns from a row with a time; any other is left out, as are variants that are not registered and
  /// masks whose file is gone. `roofs`: of the machine that measured it.
  void learn(const ResultRow& row, const Roofs& roofs);
  void learn(const ResultRow& row) { learn(row, roofs_); }
  TimeForecast predict(const Variant& variant, const Problem& problem, int threads) const;
  /// Whether the variant was measured in the same setting.
  bool knows(const Variant& variant, const Problem& problem, int threads) const;
  /// All but shape and the numbers of mask and position, as text: of each setting one measured row is enough.
  static std::string setting(const Problem& problem, int threads);
  const Roofs& roofs() const { return roofs_; }

 private:
  /// Where a problem stands among others.
  struct Place {
    Place(const Problem& problem, int threads);
    double distance(const Place& other) const;

    Pass pass;
    Scope scope;
    Dtype dtype;
    std::string mask, mask_kind, position, position_kind, setting;
    double queries, keys, heads, width, threads;  ///< logarithms to base 2
  };
  struct Observation {
    Place place;
    double efficiency;
  };

  Roofs roofs_;
  std::map<std::string, std::vector<Observation>> observations_;  ///< by variant
};

}  // namespace attn
