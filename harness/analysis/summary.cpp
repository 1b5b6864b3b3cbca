#include "harness/analysis/summary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace attn {
namespace {

using Sentence = std::optional<std::string>;

/// Most points first, then the largest range: the sweep that says most.
bool says_more(const FitRow& a, const FitRow& b) {
  const auto weight = [](const FitRow& row) { return std::pair(row.points, row.to.value_or(0)); };
  return weight(a) > weight(b);
}

std::string law_text(const FitRow& fit) {
  const std::string analytic =
      fit.analytic_exponent ? fmt::format(", {:.2f} by its FLOPs: {}", *fit.analytic_exponent, fit.verdict)
                            : "";
  return fmt::format("n^{:.2f} [{:.2f}, {:.2f}]{}", *fit.exponent, *fit.exponent_ci_low,
                     *fit.exponent_ci_high, analytic);
}

/// Steepest or flattest time in n among the sweeps with most points.
Sentence time_growth(const std::vector<FitRow>& fits, bool steepest) {
  std::vector<FitRow> candidates;
  for (const FitRow& fit : fits) {
    if (fit.axis == "n" && fit.quantity == "time" && fit.exponent_ci_low) candidates.push_back(fit);
  }
  if (candidates.empty()) return {};
  const int64_t most = std::min_element(candidates.begin(), candidates.end(), says_more)->points;
  std::erase_if(candidates, [&](const FitRow& fit) { return fit.points < std::min<int64_t>(most, 4); });
  const auto by_exponent = [](const FitRow& a, const FitRow& b) { return *a.exponent < *b.exponent; };
  const auto [flattest, highest] = std::minmax_element(candidates.begin(), candidates.end(), by_exponent);
  if (!steepest && flattest == highest) return {};
  const FitRow& fit = steepest ? *highest : *flattest;
  return fmt::format("{} growth of time: {} as {} over n = {}..{} ({})", steepest ? "steepest" : "flattest",
                     fit.variant, law_text(fit), *fit.from, *fit.to, fit.setting);
}

/// The crossover that is known best; without one, the largest ratio of two times.
Sentence time_crossover(const std::vector<CrossoverRow>& crossovers) {
  const CrossoverRow* best = nullptr;
  const CrossoverRow* widest = nullptr;
  const auto width = [](const CrossoverRow& row) {
    return std::log(*row.crossover_ci_high / *row.crossover_ci_low);
  };
  for (const CrossoverRow& row : crossovers) {
    if (row.quantity != "time" || row.axis != "n") continue;
    if (!widest || *row.ratio_at_to > *widest->ratio_at_to) widest = &row;
    if (row.verdict == "crosses" && (!best || width(row) < width(*best))) best = &row;
  }
  if (best) {
    return fmt::format("{} is faster than {} from n = {:.0f} [{:.0f}, {:.0f}] on ({})", best->variant_b,
                       best->variant_a, *best->crossover, *best->crossover_ci_low, *best->crossover_ci_high,
                       best->setting);
  }
  if (!widest) return {};
  return fmt::format("no crossover in time is certain; {} takes {:.3g} times as long as {} at n = {} ({})",
                     widest->variant_a, *widest->ratio_at_to, widest->variant_b, *widest->to,
                     widest->setting);
}

/// Largest ratio of operands plus workspace between two variants on the same problem.
Sentence memory_ratio(const std::vector<ResultRow>& rows) {
  struct Extremes {
    const ResultRow* least = nullptr;
    const ResultRow* most = nullptr;
  };
  const auto bytes = [](const ResultRow& row) { return measured_value(row, Quantity::total_memory); };
  std::map<std::string, Extremes> by_problem;
  for (const ResultRow& row : rows) {
    if (row.status != Status::ok || !bytes(row) || *bytes(row) <= 0) continue;
    Extremes& seen = by_problem[row.problem];
    if (!seen.least || *bytes(row) < *bytes(*seen.least)) seen.least = &row;
    if (!seen.most || *bytes(row) > *bytes(*seen.most)) seen.most = &row;
  }
  Extremes best;
  double best_ratio = 1;
  for (const auto& [problem, seen] : by_problem) {
    const double ratio = *bytes(*seen.most) / *bytes(*seen.least);
    if (ratio > best_ratio) {
      best = seen;
      best_ratio = ratio;
    }
  }
  if (!best.most) return {};
  constexpr double kMebibyte = 1 << 20;
  return fmt::format("{} needs {:.3g} times the memory of {}: {:.4g} MiB against {:.4g} MiB ({})",
                     best.most->variant, best_ratio, best.least->variant, *bytes(*best.most) / kMebibyte,
                     *bytes(*best.least) / kMebibyte, best.most->problem);
}

Sentence worst_error(const std::vector<ResultRow>& rows) {
  const ResultRow* worst = nullptr;
  size_t checked = 0, disagree = 0;
  for (const ResultRow& row : rows) {
    if (row.status == Status::disagrees) ++disagree;
    if (!row.error_bound) continue;
    ++checked;
    // Negated, so that a NaN is the worst of all.
    if (!worst || !(*row.error_bound <= *worst->error_bound)) worst = &row;
  }
  if (!worst) return {};
  return fmt::format("worst error is {:.3g} of its bound, {} at {}; {} rows checked, {} disagree",
                     *worst->error_bound, worst->variant, worst->problem, checked, disagree);
}

}  // namespace

std::vector<std::string> telling_numbers(const std::vector<ResultRow>& rows, const std::vector<FitRow>& fits,
                                         const std::vector<CrossoverRow>& crossovers) {
  std::vector<std::string> sentences;
  for (const Sentence& sentence : {time_growth(fits, true), time_growth(fits, false),
                                   time_crossover(crossovers), memory_ratio(rows), worst_error(rows)}) {
    if (sentence) sentences.push_back(*sentence);
  }
  return sentences;
}

}  // namespace attn
