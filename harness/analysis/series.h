#pragma once
// Rows of a campaign grouped into sweeps: the same variant and everything equal but one axis.

#include <cstdint>
#include <map>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "harness/results/schema.h"

namespace attn {

/// n: seq_q = seq_kv. d: d_head = d_value at fixed heads, so the model width grows with it and has the same
/// exponent. h_fixed_width: heads split a fixed d_model. h_fixed_head: d_head stays, d_model grows. Heads
/// keep their group size. density: the share of visible pairs, as the numbers in a mask's text change;
/// crossovers alone look along it. d_o: the width of a block's input and output at fixed heads; terms alone
/// look along it.
enum class Axis { n, d, h_fixed_width, h_fixed_head, density, d_o };
std::string to_text(Axis axis);
inline constexpr Axis kGrowthAxes[] = {Axis::n, Axis::d, Axis::h_fixed_width, Axis::h_fixed_head};

/// Raw times of one row, by process and measuring round.
class Samples {
 public:
  void add(int64_t process, int64_t round, double time_s);
  bool empty() const { return rounds_.empty(); }
  std::vector<double> all() const;
  /// Median of a bootstrap resample. Samples of one round share its disturbances, so whole rounds are drawn
  /// where a process has at least kRoundsToResample, single samples otherwise; each process has its share of
  /// the resample, as it has of the samples: two processes are too few to be drawn themselves.
  double resampled_median(std::mt19937_64& random) const;

  static constexpr size_t kRoundsToResample = 6;

 private:
  struct Round {
    int64_t process, number;
    std::vector<double> times_s;
  };
  using Rounds = std::span<const Round>;
  static void resample(Rounds process, std::vector<double>& drawn, std::mt19937_64& random);

  std::vector<Round> rounds_;  ///< ascending by process and number
};

/// Raw samples by point and variant.
using SampleIndex = std::map<std::pair<std::string, std::string>, Samples>;
SampleIndex index_samples(const std::vector<SampleRow>& rows);

struct Point {
  double x = 0;
  const ResultRow* row = nullptr;
  const Samples* samples = nullptr;  ///< null where none were kept
};

/// The row at x with its raw samples, where the index has them. Borrows from both.
Point point_at(double x, const ResultRow& row, const SampleIndex& samples);

/// A resampled median of the point; the row's interval read as that of a log-normal median where raw samples
/// are missing, the median itself where that is missing too.
double resampled_time_s(const Point& point, std::mt19937_64& random);

/// A level of the memory and what the threads' share of it holds, ascending.
struct CacheLevel {
  std::string name;
  double bytes = 0;
};
using LevelsByThreads = std::map<int64_t, std::vector<CacheLevel>>;

struct Series {
  std::string variant;
  Axis axis = Axis::n;
  std::string setting;             ///< the fields held fixed, in the problem's own text, and the threads
  std::vector<Point> points;       ///< ascending x, one a value; rows that are not ok included
  std::vector<CacheLevel> levels;  ///< of the machine; empty where unknown
};

inline constexpr size_t kSweepPoints = 3;

/// Every sweep along one of the axes with at least kSweepPoints values, at least one of them ok. Borrows from
/// rows and samples.
std::vector<Series> group_series(const std::vector<ResultRow>& rows, const SampleIndex& samples,
                                 const LevelsByThreads& levels = {},
                                 const std::vector<Axis>& axes = {std::begin(kGrowthAxes),
                                                                  std::end(kGrowthAxes)});

/// What the row holds fixed on this axis; empty where the row is not on it (seq_q != seq_kv, d_value !=
/// d_head, a mask without numbers).
std::string setting_of(const ResultRow& row, Axis axis);

}  // namespace attn
