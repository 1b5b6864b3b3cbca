#include "harness/selftest/mutants.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/oracle/check.h"

namespace attn {
namespace {

struct Solved {
  Fill fill;
  Inputs<float> inputs;
  Truth truth;
};

std::vector<Solved> solve_fills(const Problem& problem, uint64_t seed, int threads) {
  std::vector<Solved> solved(all_fills().size());
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (size_t f = 0; f < solved.size(); ++f) {
    solved[f].fill = all_fills()[f];
    solved[f].inputs = make_checked_inputs(problem, solved[f].fill, seed);
    solved[f].truth = make_truth(problem, solved[f].inputs, {.threads = 1});
  }
  return solved;
}

std::string place(const Problem& problem, Fill fill, const CaseOutcome& outcome) {
  return fmt::format("{} fill={}: {}", problem.text(), to_text(fill), outcome.reason);
}

void run_correct(const Case& checked, const std::vector<Solved>& solved, MutantScore& score) {
  const auto correct = make_control(Mutation::none);
  for (const Solved& s : solved) {
    const CaseOutcome outcome = check_case(*correct, checked, s.inputs, s.truth, 1);
    ++score.correct_runs;
    score.correct_worst = std::max(score.correct_worst, outcome.worst);
    if (!outcome.ok) score.false_alarms.push_back(place(checked.problem, s.fill, outcome));
  }
}

void run_mutant(const Case& checked, const std::vector<Solved>& solved, Mutant& mutant) {
  const auto control = make_control(mutant.mutation);
  for (const Solved& s : solved) {
    const CaseOutcome outcome = check_case(*control, checked, s.inputs, s.truth, 1);
    if (outcome.ok) continue;
    mutant.killed_by = place(checked.problem, s.fill, outcome);
    return;
  }
}

/// The default problems of these types in an order in which every kind comes early: most mutants die in few
/// of them.
std::vector<Case> spread_cases(const std::vector<Dtype>& dtypes, BlockFiles& files) {
  const std::vector<Case> all = check_cases(SuiteSize::full, files);
  const size_t step = 61;  // prime, and no divisor of what the list is built of
  std::vector<Case> spread;
  for (size_t start = 0; start < step; ++start) {
    for (size_t c = start; c < all.size(); c += step) {
      if (std::find(dtypes.begin(), dtypes.end(), all[c].problem.dtype) != dtypes.end())
        spread.push_back(all[c]);
    }
  }
  return spread;
}

}  // namespace

bool MutantScore::ok() const {
  return false_alarms.empty() &&
         std::all_of(mutants.begin(), mutants.end(), [](const Mutant& m) { return m.killed(); });
}

MutantScore score_mutants(const std::vector<Dtype>& dtypes, uint64_t seed, int threads) {
  MutantScore score;
  for (Dtype dtype : dtypes) {
    for (Mutation mutation : all_mutations()) score.mutants.push_back({.mutation = mutation, .dtype = dtype});
  }
  BlockFiles files;
  for (const Case& checked : spread_cases(dtypes, files)) {
    const std::vector<Solved> solved = solve_fills(checked.problem, seed, threads);
    run_correct(checked, solved, score);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (size_t k = 0; k < score.mutants.size(); ++k) {
      Mutant& mutant = score.mutants[k];
      if (mutant.dtype == checked.problem.dtype && !mutant.killed()) run_mutant(checked, solved, mutant);
    }
  }
  return score;
}

}  // namespace attn
