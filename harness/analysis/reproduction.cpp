#include "harness/analysis/reproduction.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <optional>

namespace attn {
namespace {

using Outcome = Finding::Outcome;

/// Ratios nearer to 1 leave open which variant is ahead.
constexpr double kClearLead = 1.05;

bool overlap(const Interval& a, const Interval& b) { return a.low <= b.high && b.low <= a.high; }

Outcome agreement(bool agrees) { return agrees ? Outcome::agrees : Outcome::differs; }

Interval exponent_interval(const FitRow& fit) {
  return fit.exponent_ci_low ? Interval{*fit.exponent_ci_low, *fit.exponent_ci_high} : Interval{};
}

std::string exponent_text(const FitRow& fit) {
  if (!fit.exponent) return fit.model;
  if (!fit.exponent_ci_low) return fmt::format("{:.2f}", *fit.exponent);
  return fmt::format("{:.2f} [{:.2f}, {:.2f}]", *fit.exponent, *fit.exponent_ci_low, *fit.exponent_ci_high);
}

Outcome exponents_agree(const FitRow& a, const FitRow& b) {
  if (a.quantity == "time") {
    const Interval of_a = exponent_interval(a), of_b = exponent_interval(b);
    return of_a.known() && of_b.known() ? agreement(overlap(of_a, of_b)) : Outcome::undecided;
  }
  if (!a.exponent || !b.exponent) return agreement(a.model == b.model);
  return agreement(std::abs(*a.exponent - *b.exponent) <= kExactTolerance);
}

void judge_exponents(const Analysis& first, const Analysis& second, std::vector<Finding>& findings) {
  for (const FitRow& a : first.fits) {
    if (a.quantity == "flops") continue;
    const auto b = std::find_if(second.fits.begin(), second.fits.end(), [&](const FitRow& row) {
      return std::tie(row.variant, row.axis, row.quantity, row.setting) ==
             std::tie(a.variant, a.axis, a.quantity, a.setting);
    });
    Finding finding{fmt::format("{}_vs_{}", a.quantity == "time" ? "time" : "memory", a.axis),
                    fmt::format("exponent of {}, {} at {}", a.quantity, a.variant, a.setting),
                    exponent_text(a), "not measured", Outcome::undecided};
    if (b != second.fits.end()) {
      finding.second = exponent_text(*b);
      finding.outcome = exponents_agree(a, *b);
    }
    findings.push_back(finding);
  }
}

std::string crossover_text(const CrossoverRow& row) {
  if (!row.crossover) return fmt::format("{} ahead, {}", row.variant_b, row.verdict);
  const auto end = [](const Number& value) {
    return value ? fmt::format("{:.4g}", *value) : std::string("?");
  };
  return fmt::format("{} from {:.4g} [{}, {}]", row.variant_b, *row.crossover, end(row.crossover_ci_low),
                     end(row.crossover_ci_high));
}

/// An end outside the measured range is open.
Interval crossover_interval(const CrossoverRow& row) {
  return {row.crossover_ci_low.value_or(0),
          row.crossover_ci_high.value_or(std::numeric_limits<double>::infinity())};
}

Outcome crossovers_agree(const CrossoverRow& a, const CrossoverRow& b) {
  if (std::min(*a.ratio_at_to, *b.ratio_at_to) < kClearLead) return Outcome::undecided;
  if (a.variant_b != b.variant_b) return Outcome::differs;
  if (a.crossover && b.crossover) return agreement(overlap(crossover_interval(a), crossover_interval(b)));
  if (!a.crossover && !b.crossover) return Outcome::agrees;
  // One campaign has a crossover that the other does not: only a certain one contradicts.
  return (a.crossover ? a : b).verdict == "crosses" ? Outcome::differs : Outcome::undecided;
}

void judge_crossovers(const Analysis& first, const Analysis& second, std::vector<Finding>& findings) {
  for (const CrossoverRow& a : first.crossovers) {
    const auto b =
        std::find_if(second.crossovers.begin(), second.crossovers.end(), [&](const CrossoverRow& row) {
          const bool same_pair =
              std::minmax(row.variant_a, row.variant_b) == std::minmax(a.variant_a, a.variant_b);
          return same_pair &&
                 std::tie(row.axis, row.quantity, row.setting) == std::tie(a.axis, a.quantity, a.setting);
        });
    Finding finding{
        "crossover_map",
        fmt::format("{} of {} and {} in {} at {}", a.quantity, a.variant_a, a.variant_b, a.axis, a.setting),
        crossover_text(a), "not measured", Outcome::undecided};
    if (b != second.crossovers.end()) {
      finding.second = crossover_text(*b);
      finding.outcome = crossovers_agree(a, *b);
    }
    findings.push_back(finding);
  }
}

using RowsByVariant = std::map<std::string, const ResultRow*>;

/// By problem and threads.
std::map<std::string, RowsByVariant> rows_by_point(const CampaignData& campaign) {
  std::map<std::string, RowsByVariant> points;
  for (const ResultRow& row : campaign.rows) {
    if (row.status == Status::unsupported || row.status == Status::skipped) continue;
    points[fmt::format("{}, threads={}", row.problem, row.threads)][row.variant] = &row;
  }
  return points;
}

/// Which of two variants is ahead, where their medians' intervals are apart: -1 the first, 1 the second, 0
/// open.
int decided_order(const ResultRow& a, const ResultRow& b) {
  if (!a.time_s_ci_low || !b.time_s_ci_low) return 0;
  if (*a.time_s_ci_high * kClearLead < *b.time_s_ci_low) return -1;
  return *b.time_s_ci_high * kClearLead < *a.time_s_ci_low ? 1 : 0;
}

/// Variants by median time.
std::string ranking(const RowsByVariant& rows) {
  std::vector<const ResultRow*> ordered;
  for (const auto& [variant, row] : rows) {
    if (row->time_s_median) ordered.push_back(row);
  }
  std::sort(ordered.begin(), ordered.end(),
            [](const ResultRow* a, const ResultRow* b) { return *a->time_s_median < *b->time_s_median; });
  std::string text;
  for (const ResultRow* row : ordered) text += (text.empty() ? "" : " < ") + row->variant;
  return text;
}

Outcome rankings_agree(const RowsByVariant& first, const RowsByVariant& second) {
  bool decided = false, contradicted = false;
  for (auto a = first.begin(); a != first.end(); ++a) {
    for (auto b = std::next(a); b != first.end(); ++b) {
      const auto a2 = second.find(a->first), b2 = second.find(b->first);
      if (a2 == second.end() || b2 == second.end()) continue;
      const int once = decided_order(*a->second, *b->second), again = decided_order(*a2->second, *b2->second);
      decided = decided || once * again != 0;
      contradicted = contradicted || once * again < 0;
    }
  }
  return contradicted ? Outcome::differs : decided ? Outcome::agrees : Outcome::undecided;
}

void judge_points(const CampaignData& first, const CampaignData& second, std::vector<Finding>& findings) {
  const auto of_first = rows_by_point(first), of_second = rows_by_point(second);
  for (const auto& [point, rows] : of_first) {
    const auto found = of_second.find(point);
    const RowsByVariant again = found == of_second.end() ? RowsByVariant{} : found->second;
    findings.push_back({"ranking", point, ranking(rows), ranking(again), rankings_agree(rows, again)});
    for (const auto& [variant, row] : rows) {
      const auto same = again.find(variant);
      const bool known = same != again.end();
      findings.push_back({"status", fmt::format("{} at {}", variant, point), to_text(row->status),
                          known ? to_text(same->second->status) : "not measured",
                          known ? agreement(row->status == same->second->status) : Outcome::undecided});
    }
  }
}

}  // namespace

std::vector<Finding> judge_reproduction(const CampaignData& first, const CampaignData& second) {
  const Analysis of_first = analyse(first), of_second = analyse(second);
  std::vector<Finding> findings;
  judge_exponents(of_first, of_second, findings);
  judge_crossovers(of_first, of_second, findings);
  judge_points(first, second, findings);
  return findings;
}

}  // namespace attn
