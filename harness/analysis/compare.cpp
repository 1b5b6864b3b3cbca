#include "harness/analysis/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <numbers>
#include <numeric>
#include <optional>
#include <set>

#include "harness/analysis/interval.h"

namespace attn {
namespace {

constexpr int kSpreadResamples = 100;
constexpr uint64_t kSpreadSeed = 20170612;
/// sd of ln time of single samples, for points with too few of them: results/scaling-n.
constexpr double kWithinProcess = 0.03;
/// From so many points on their median hardly feels a disturbed one.
constexpr size_t kSteadyPoints = 6;
/// Efficiency of the median absolute deviation for normal data: what its degrees of freedom are worth.
constexpr double kMadEfficiency = 0.37;

struct Key {
  std::string problem, variant;
  int64_t threads;
  auto operator<=>(const Key&) const = default;
  std::string text() const { return fmt::format("{} at {}, threads={}", variant, problem, threads); }
};

std::set<int64_t> thread_counts(const CampaignData& campaign) {
  std::set<int64_t> counts;
  for (const ResultRow& row : campaign.rows) counts.insert(row.threads);
  return counts;
}

bool share_threads(const CampaignData& a, const CampaignData& b) {
  const std::set<int64_t> of_a = thread_counts(a), of_b = thread_counts(b);
  return std::any_of(of_a.begin(), of_a.end(), [&](int64_t count) { return of_b.contains(count); });
}

std::map<Key, const ResultRow*> rows_by_key(const CampaignData& campaign, bool with_threads) {
  std::map<Key, const ResultRow*> rows;
  for (const ResultRow& row : campaign.rows) {
    if (row.status == Status::unsupported || row.status == Status::skipped)
      continue;  // nothing was asked of it
    rows[{row.problem, row.variant, with_threads ? row.threads : 0}] = &row;
  }
  return rows;
}

/// Fewer than six samples have no interval of their median (median_rank).
bool enough_samples(const ResultRow& row) { return median_rank(row.samples.value_or(0)) > 0; }

/// Variance of the logarithm of a row's median, by its samples.
double variance_within(const ResultRow& row, const SampleIndex& samples) {
  const auto count = static_cast<double>(std::max<int64_t>(row.samples.value_or(1), 1));
  const double assumed = std::numbers::pi / 2 * kWithinProcess * kWithinProcess / count;
  if (!enough_samples(row)) return assumed;
  std::mt19937_64 random(kSpreadSeed);
  const Point point = point_at(0, row, samples);
  double sum = 0, squares = 0;
  for (int k = 0; k < kSpreadResamples; ++k) {
    const double value = std::log(resampled_time_s(point, random) / *row.time_s_median);
    sum += value;
    squares += value * value;
  }
  return std::max(squares - sum * sum / kSpreadResamples, 0.0) / (kSpreadResamples - 1);
}

struct Measured {
  size_t row;     ///< in Comparison::rows
  double r;       ///< ln(B / A)
  double within;  ///< its variance by samples
  bool testable;  ///< both rows have enough samples
};

double median_ratio(const std::vector<Measured>& points) {
  std::vector<double> ratios;
  for (const Measured& point : points) ratios.push_back(point.r);
  return median(ratios);
}

/// Variance of r by processes, and the degrees of freedom behind it.
struct Spread {
  double variance, degrees;
};

Spread spread_between(const std::map<std::string, std::vector<Measured>>& by_variant) {
  std::vector<double> deviations;
  double within = 0, free = 0;
  for (const auto& [variant, points] : by_variant) {
    const double middle = median_ratio(points);
    const auto count = static_cast<double>(points.size());
    // Deviations from a median of few are too small by the share of freedom it took.
    const double correction = points.size() > 1 ? std::sqrt(count / (count - 1)) : 0;
    for (const Measured& point : points) {
      if (points.size() > 1) deviations.push_back(correction * std::abs(point.r - middle));
      within += point.within;
    }
    free += count - 1;
  }
  const double scale = deviations.empty() ? 0 : 1.4826 * median(deviations);
  within /= std::max(free + static_cast<double>(by_variant.size()), 1.0);
  const double prior = 2 * kBetweenProcesses * kBetweenProcesses, degrees = kMadEfficiency * free;
  const double estimate = std::max(scale * scale - within, 0.0);
  return {(kPriorDegrees * prior + degrees * estimate) / (kPriorDegrees + degrees), kPriorDegrees + degrees};
}

struct Tested {
  size_t row;
  double r, error;
  int64_t degrees;
};

/// One family of tests with its share of the false alarms.
void judge(Comparison& comparison, const std::vector<Tested>& tests, double share, double threshold) {
  const double limit = std::log1p(threshold);
  std::vector<double> p;
  for (const Tested& test : tests) {
    // Two one-sided tests, so twice the smaller tail.
    const double tail = student_t_upper((std::abs(test.r) - limit) / test.error, test.degrees);
    p.push_back(std::min(1.0, 2 * tail / share));
  }
  const std::vector<double> adjusted = holm_adjusted(p);
  for (size_t i = 0; i < tests.size(); ++i) {
    const auto& [place, r, error, degrees] = tests[i];
    const double t = student_t_quantile(0.975, degrees);
    ComparedRow& row = comparison.rows[place];
    row.ratio = std::exp(r);
    row.ratio_ci_low = std::exp(r - t * error);
    row.ratio_ci_high = std::exp(r + t * error);
    row.p_adjusted = adjusted[i];
    const bool inside = std::abs(r) + t * error <= limit;
    row.verdict = adjusted[i] <= kFalseAlarms ? (r > 0 ? "slower" : "faster") : inside ? "same" : "unclear";
  }
}

/// The least r of all variants where they all have its sign; 0 otherwise, and for a variant alone.
double shared_move(const std::map<std::string, std::vector<Measured>>& by_variant) {
  if (by_variant.size() < 2) return 0;
  double least = std::numeric_limits<double>::infinity(), most = -least;
  for (const auto& [variant, points] : by_variant) {
    least = std::min(least, median_ratio(points));
    most = std::max(most, median_ratio(points));
  }
  return least > 0 ? least : most < 0 ? most : 0;
}

/// The median of a variant over its points, as one more row and one more test.
std::optional<Tested> add_whole_variant(Comparison& comparison, const std::string& variant,
                                        const std::vector<Measured>& points, const Spread& between,
                                        double session) {
  if (points.size() < 2) return {};
  double variance = 0;
  const auto count = static_cast<double>(points.size());
  for (const Measured& point : points) variance += (point.within + between.variance) / count;
  constexpr double kMedianOfNormal = std::numbers::pi / 2;  // its variance, over the mean's
  ComparedRow row;
  row.variant = variant;
  row.problem = fmt::format("all {} points", points.size());
  comparison.rows.push_back(row);
  // The median of few points is moved by one disturbed process as much as a point is.
  const auto degrees = points.size() < kSteadyPoints
                           ? kTailDegrees
                           : std::max<int64_t>(kTailDegrees, static_cast<int64_t>(between.degrees));
  return Tested{comparison.rows.size() - 1, median_ratio(points),
                std::sqrt(kMedianOfNormal * variance / count + session), degrees};
}

ComparedRow describe(const Key& key, const ResultRow& a, const ResultRow& b) {
  ComparedRow row;
  row.variant = key.variant;
  row.problem = key.problem;
  row.threads = b.threads;
  row.status_a = to_text(a.status);
  row.status_b = to_text(b.status);
  row.time_s_a = a.time_s_median;
  row.time_s_b = b.time_s_median;
  if (a.status == Status::ok && b.status != Status::ok) row.verdict = "broken";
  if (a.status != Status::ok && b.status == Status::ok) row.verdict = "repaired";
  return row;
}

std::string field(const nlohmann::json& object, const char* place) {
  const nlohmann::json::json_pointer pointer(place);
  return object.is_object() && object.contains(pointer) ? object[pointer].dump() : "unknown";
}

}  // namespace

bool Comparison::regression() const {
  return std::any_of(rows.begin(), rows.end(), [](const ComparedRow& row) {
    return row.verdict == "slower" || row.verdict == "broken";
  });
}

std::vector<double> holm_adjusted(const std::vector<double>& p) {
  std::vector<size_t> order(p.size());
  std::iota(order.begin(), order.end(), 0);
  std::sort(order.begin(), order.end(), [&](size_t i, size_t j) { return p[i] < p[j]; });
  std::vector<double> adjusted(p.size());
  double largest = 0;
  for (size_t k = 0; k < order.size(); ++k) {
    largest = std::max(largest, static_cast<double>(p.size() - k) * p[order[k]]);
    adjusted[order[k]] = std::min(largest, 1.0);
  }
  return adjusted;
}

std::string why_not_comparable(const CampaignData& a, const CampaignData& b) {
  for (const CampaignData* campaign : {&a, &b}) {
    if (campaign->environment.is_null())
      return campaign->dir + " has no environment.json: its machine is unknown";
  }
  struct Fact {
    const char* name;
    const char* place;
  };
  static constexpr Fact kFacts[] = {{"the CPU", "/cpu/model"},
                                    {"the number of hardware threads", "/cpu/hardware_threads"},
                                    {"the number of usable threads", "/cpu/usable_threads"},
                                    {"the GPU", "/gpu"},
                                    {"the compiler", "/build/compiler"},
                                    {"the CUDA compiler", "/build/cuda_compiler"},
                                    {"the build type", "/build/build_type"},
                                    {"the set of compiler flags", "/build/flags"}};
  for (const Fact& fact : kFacts) {
    const std::string of_a = field(a.environment, fact.place), of_b = field(b.environment, fact.place);
    if (of_a != of_b)
      return fmt::format("{} differs: {} in {}, {} in {}", fact.name, of_a, a.dir, of_b, b.dir);
  }
  const std::string fill_a = field(a.configuration, "/fill"), fill_b = field(b.configuration, "/fill");
  if (fill_a != fill_b) return fmt::format("the fill of the inputs differs: {}, {}", fill_a, fill_b);
  if (!a.rows.empty() && !b.rows.empty() && !share_threads(a, b)) return "no number of threads is in both";
  const auto of_a = rows_by_key(a, true), of_b = rows_by_key(b, true);
  const bool common =
      std::any_of(of_a.begin(), of_a.end(), [&](const auto& row) { return of_b.contains(row.first); });
  return common ? "" : "no problem and variant is in both";
}

Comparison compare_campaigns(const CampaignData& a, const CampaignData& b, double threshold) {
  const bool with_threads = share_threads(a, b);
  const auto of_a = rows_by_key(a, with_threads), of_b = rows_by_key(b, with_threads);
  Comparison comparison;
  std::map<std::string, std::vector<Measured>> by_variant;
  for (const auto& [key, row_a] : of_a) {
    const auto found = of_b.find(key);
    if (found == of_b.end()) {
      comparison.only_in_a.push_back(key.text());
      continue;
    }
    const ResultRow& row_b = *found->second;
    comparison.rows.push_back(describe(key, *row_a, row_b));
    if (!row_a->time_s_median || !row_b.time_s_median) continue;
    by_variant[key.variant].push_back({comparison.rows.size() - 1,
                                       std::log(*row_b.time_s_median / *row_a->time_s_median),
                                       variance_within(*row_a, a.samples) + variance_within(row_b, b.samples),
                                       enough_samples(*row_a) && enough_samples(row_b)});
  }
  for (const auto& [key, row] : of_b) {
    if (!of_a.contains(key)) comparison.only_in_b.push_back(key.text());
  }
  const Spread spread = spread_between(by_variant);
  comparison.between_processes = std::sqrt(spread.variance / 2);
  const double shared = shared_move(by_variant), shared_variance = shared * shared;
  comparison.shared = std::exp(shared);
  const double session = 2 * kBetweenSessions * kBetweenSessions + shared_variance;
  std::vector<Tested> points_tested, variants_tested;
  for (const auto& [variant, points] : by_variant) {
    for (const Measured& point : points) {
      comparison.rows[point.row].ratio = std::exp(point.r);
      comparison.rows[point.row].verdict = "unclear";
      if (point.testable) {
        points_tested.push_back(
            {point.row, point.r, std::sqrt(point.within + spread.variance + shared_variance), kTailDegrees});
      }
    }
    const auto whole = add_whole_variant(comparison, variant, points, spread, session);
    if (whole) variants_tested.push_back(*whole);
  }
  judge(comparison, points_tested, kShareOfPoints, threshold);
  judge(comparison, variants_tested, 1 - kShareOfPoints, threshold);
  return comparison;
}

}  // namespace attn
