#pragma once
// Two campaigns against each other, point by point: did a variant become slower?
//
// The ratio of a point is B's median time over A's. Its logarithm r varies for three reasons, and all are in
// its standard error:
//
// - samples within a process: bootstrap of the raw samples (whole rounds, see Samples), or the row's interval
//   where the folder has no raw samples;
// - processes: a point is measured in one or two, and their number is too small to tell their spread. It is
//   estimated from the points themselves, by the median absolute deviation of r from its variant's median,
//   less what samples explain, so that neither a variant that changed everywhere nor a few points that
//   changed inflate it. With few points the estimate is drawn towards kBetweenProcesses (as a prior of
//   kPriorDegrees degrees of freedom; the form of Smyth 2004);
// - sessions: kBetweenSessions, for the rows of whole variants alone; and where every variant moved to the
// same side,
//   the least of their moves, for all rows. A change of one variant leaves the others alone; a neighbour,
//   another clock or another compiler does not. So a campaign to be compared should hold a variant that
//   nobody touches.
//
// A point is `slower` where r > ln(1 + threshold), `faster` where r < -ln(1 + threshold), both by a one-sided
// t test; `same` where the 95 % interval lies within the threshold on both sides; `unclear` otherwise. Now
// and then a neighbour disturbs a whole process, so points are tested with the tails of kTailDegrees degrees
// of freedom. Each variant has one more row, the median of r over its points, which a few disturbed processes
// cannot move: a change everywhere shows there first.
//
// Many comparisons: Holm's step-down, which bounds the probability of any false alarm by kFalseAlarms,
// whatever the dependence between points; most of it for the rows of variants, kShareOfPoints for the points.
// Benjamini and Hochberg's bound on the share of false ones would let more of them through as soon as one
// change is real, and a continuous integration that stops for one false alarm is soon ignored.

#include <string>
#include <vector>

#include "harness/analysis/campaign_data.h"

namespace attn {

inline constexpr double kBetweenProcesses = 0.015;  ///< sd of ln time
inline constexpr double kBetweenSessions = 0.01;
inline constexpr double kPriorDegrees = 1;
inline constexpr int64_t kTailDegrees = 3;
inline constexpr double kFalseAlarms = 0.05;   ///< probability of any, per comparison
inline constexpr double kShareOfPoints = 0.1;  ///< of the false alarms

/// A row of the comparison's CSV; columns are the members' names.
struct ComparedRow {
  std::string variant, problem;  ///< problem: "all N points" for the median over a variant's points
  Count threads;
  std::string status_a, status_b;
  Number time_s_a, time_s_b;
  Number ratio, ratio_ci_low, ratio_ci_high;  ///< B / A, 95 %, not corrected for many comparisons
  Number p_adjusted;  ///< of no change beyond the threshold, corrected for many comparisons
  std::string
      verdict;  ///< faster, slower, same, unclear, broken (ok in A alone), repaired, or empty (ok in neither)
};

struct Comparison {
  std::vector<ComparedRow> rows;
  std::vector<std::string> only_in_a, only_in_b;  ///< "variant at problem, threads"
  double between_processes = 0;                   ///< sd of ln time, as used
  double shared = 1;                              ///< ratio by which every variant moved, at least; 1: none
  bool regression() const;                        ///< any row slower or broken
};

/// What forbids the comparison, as one line; empty where nothing does: machine, GPU, compiler, flags, fill or
/// threads differ, or no point is in both.
std::string why_not_comparable(const CampaignData& a, const CampaignData& b);

/// `threshold`: relative change that matters, such as 0.02. Where the campaigns share no number of threads,
/// points are matched without it.
Comparison compare_campaigns(const CampaignData& a, const CampaignData& b, double threshold);

/// Step-down adjusted p values in the order given (Holm 1979).
std::vector<double> holm_adjusted(const std::vector<double>& p);

}  // namespace attn
