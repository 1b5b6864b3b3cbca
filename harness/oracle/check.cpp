#include "harness/oracle/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace attn {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

void fill_row(std::vector<float>& tensor, int64_t row, int64_t width, float value) {
  std::fill_n(tensor.begin() + row * width, width, value);
}

/// Keys and values no query sees.
void poison_hidden_keys(const Problem& p, Inputs<float>& inputs) {
  const MaskRule rule = p.mask_rule();
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t j = 0; j < p.seq_kv; ++j) {
      bool seen = false;
      for (int64_t i = 0; i < p.seq_q && !seen; ++i) seen = rule.allows(b, i, j);
      for (int64_t g = 0; g < p.heads_kv && !seen; ++g) {
        const int64_t row = (b * p.seq_kv + j) * p.heads_kv + g;
        fill_row(inputs.k, row, p.head_dim, j % 2 ? kInfinity : kNan);
        fill_row(inputs.v, row, p.value_dim, j % 2 ? kNan : -kInfinity);
      }
    }
  }
}

/// Gradients of outputs that depend on nothing.
void poison_empty_rows(const Problem& p, Inputs<float>& inputs) {
  const MaskRule rule = p.mask_rule();
  for (int64_t b = 0; b < p.batch; ++b) {
    for (int64_t i = 0; i < p.seq_q; ++i) {
      bool sees = false;
      for (int64_t j = 0; j < p.seq_kv && !sees; ++j) sees = rule.allows(b, i, j);
      for (int64_t h = 0; h < p.heads_q && !sees; ++h) {
        fill_row(inputs.d_o, (b * p.seq_q + i) * p.heads_q + h, p.value_dim, kNan);
      }
    }
  }
}

class CaseRun {
 public:
  CaseRun(const Variant& variant, const Case& checked, const Inputs<float>& inputs, const Truth& truth,
          LaunchMode launch)
      : variant_(variant), checked_(checked), inputs_(inputs), truth_(truth), launch_(launch) {}

  void run(int threads, bool twice) {
    Binding binding(variant_, checked_.problem, inputs_,
                    {.threads = threads, .layout = checked_.layout, .guarded = true, .launch = launch_});
    binding.run();
    const Outputs<float> first = binding.outputs();
    judge(first, threads, "");
    if (twice) {
      binding.poison_outputs();
      binding.run();
      const Outputs<float> second = binding.outputs();
      judge(second, threads, " in the second run");
      outcome.deterministic = outcome.deterministic && same_bits(first, second);
    }
    const std::vector<std::string> overruns = binding.overruns();
    if (!overruns.empty())
      fail(fmt::format("wrote beyond {} ({} threads)", fmt::join(overruns, ", "), threads));
  }
  void fail(const std::string& reason) {
    if (outcome.ok) outcome.reason = reason;
    outcome.ok = false;
  }

  CaseOutcome outcome;

 private:
  void judge(const Outputs<float>& outputs, int threads, const char* which) {
    const Verdict verdict = compare(checked_.problem, truth_, outputs);
    outcome.worst = std::max(outcome.worst, verdict.worst);
    if (!verdict.ok) fail(fmt::format("{}{} ({} threads)", verdict.reason, which, threads));
  }

  const Variant& variant_;
  const Case& checked_;
  const Inputs<float>& inputs_;
  const Truth& truth_;
  LaunchMode launch_;
};

struct Solved {
  Inputs<float> inputs;
  Truth truth;
};

void record(const Case& checked, Fill fill, const CheckPlan& plan, const CaseOutcome& outcome,
            VariantReport& report) {
  ++report.cases;
  report.deterministic = report.deterministic && outcome.deterministic;
  const std::string where = fmt::format("{} fill={}", checked.problem.text(), to_text(fill));
  if (outcome.worst > report.worst) {
    report.worst = outcome.worst;
    report.worst_at = where;
  }
  if (outcome.ok) return;
  report.failures.push_back({fmt::format("{}: {}: {}", report.variant, where, outcome.reason),
                             rerun_command(report.variant, checked.problem, fill, plan.seed, plan.launch)});
}

}  // namespace

CaseOutcome check_case(const Variant& variant, const Case& checked, const Inputs<float>& inputs,
                       const Truth& truth, int threads, LaunchMode launch) {
  CaseRun run(variant, checked, inputs, truth, launch);
  try {
    run.run(1, true);
    if (threads > 1) run.run(threads, false);
  } catch (const CannotCapture& error) {
    run.fail(error.what());
  } catch (const std::exception& error) {
    run.fail(fmt::format("threw: {}", error.what()));
  }
  return run.outcome;
}

Inputs<float> make_checked_inputs(const Problem& problem, Fill fill, uint64_t seed) {
  Inputs<float> inputs = make_inputs(problem, fill, seed);
  if (problem.scope == Scope::core) poison_hidden_keys(problem, inputs);
  if (problem.pass == Pass::bwd) poison_empty_rows(problem, inputs);
  return inputs;
}

std::string rerun_command(const std::string& variant, const Problem& problem, Fill fill, uint64_t seed,
                          LaunchMode launch) {
  return fmt::format("attnbench check --variants '^{}$' --problem {} --fill {} --seed {}{}", variant,
                     problem.text(), to_text(fill), seed, launch_option(launch));
}

std::vector<VariantReport> check(const CheckPlan& plan) {
  std::vector<VariantReport> reports;
  for (const Variant* variant : plan.variants) reports.push_back({.variant = variant->info().name});
  for (const Case& checked : plan.cases) {
    std::vector<bool> supported;
    for (const Variant* variant : plan.variants)
      supported.push_back(bool(support_of(*variant, checked.problem, plan.launch)));
    const bool wanted = std::find(supported.begin(), supported.end(), true) != supported.end();
    std::vector<Solved> solved(wanted ? plan.fills.size() : 0);
#pragma omp parallel for schedule(dynamic) num_threads(plan.threads)
    for (size_t f = 0; f < solved.size(); ++f) {
      solved[f].inputs = make_checked_inputs(checked.problem, plan.fills[f], plan.seed);
      solved[f].truth = make_truth(checked.problem, solved[f].inputs, {.threads = 1});
    }
    for (size_t f = 0; f < plan.fills.size(); ++f) {
      for (size_t v = 0; v < plan.variants.size(); ++v) {
        if (!supported[v]) {
          ++reports[v].unsupported;
          continue;
        }
        // Threads change how work is split, not what the values do: two of the fills are enough.
        const int threads = f < 2 ? plan.threads : 1;
        const OperandRounding rounding = plan.variants[v]->operand_rounding(checked.problem);
        const Truth rounded = rounding.none() ? Truth{}
                                              : make_truth(checked.problem, solved[f].inputs,
                                                           {.threads = 1, .operand_rounding = rounding});
        const CaseOutcome outcome =
            check_case(*plan.variants[v], checked, solved[f].inputs,
                       rounding.none() ? solved[f].truth : rounded, threads, plan.launch);
        record(checked, plan.fills[f], plan, outcome, reports[v]);
      }
    }
  }
  return reports;
}

}  // namespace attn
