#include "harness/oracle/controls.h"

#include <fmt/format.h>

#include <algorithm>

#include "harness/oracle/check.h"

namespace attn {
namespace {

/// Sizes: one key, odd, past the tile edge 64, one head, a width that is no multiple of 8; then what the
/// masks, positions and gradients need.
constexpr const char* kCases[] = {
    "hq=1,nq=1,d=8",
    "hq=2,nq=65,d=16",
    "hq=4,nq=97,d=32",
    "hq=3,nq=128,d=17",
    "hq=1,nq=200,d=64",
    "hq=1,nq=1,d=8,mask=causal",
    "hq=2,nq=65,d=16,mask=causal",
    "hq=4,nq=97,d=32,mask=causal",
    "hq=3,nq=128,d=17,mask=causal",
    "hq=1,nq=200,d=64,mask=causal",
    "hq=4,hk=2,nq=20,nk=40,d=16,mask=causal",
    "hq=2,nq=40,nk=20,d=16,mask=causal",
    "hq=2,nq=65,d=16,mask=window:7:3",
    "b=2,hq=2,nq=40,d=16,mask=padding:11/30",
    "hq=2,nq=40,d=16,pos=shaw:6",
    "hq=2,nq=40,d=16,pos=alibi,mask=window:20:20",
    "hq=2,nq=40,d=16,pos=alibi,softcap=5",
    "hq=4,hk=2,nq=33,d=16,pass=bwd",
    "hq=2,nq=33,d=16,pos=shaw:4,pass=bwd",
    "hq=2,nq=33,d=16,softcap=3,mask=causal,pass=bwd",
};

Verdict run_once(const Variant& variant, const Problem& p, const Inputs<float>& inputs, const Truth& truth) {
  Binding binding(variant, p, inputs, {.guarded = true});
  binding.run();
  Verdict verdict = compare(p, truth, binding.outputs());
  if (!binding.overruns().empty()) verdict = {.reason = "wrote beyond its outputs"};
  return verdict;
}

void run_case(const Problem& p, Fill fill, uint64_t seed, int threads, ControlsReport& report) {
  const Inputs<float> inputs = make_checked_inputs(p, fill, seed);
  const Truth truth = make_truth(p, inputs, {.threads = threads});
  const std::string where = fmt::format("{} fill={}", p.text(), to_text(fill));
  const Verdict correct = run_once(*make_control(Mutation::none), p, inputs, truth);
  ++report.correct_cases;
  report.correct_worst = std::max(report.correct_worst, correct.worst);
  if (!correct.ok) report.false_alarms.push_back(where + ": " + correct.reason);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (size_t c = 0; c < report.controls.size(); ++c) {
    ControlReport& control = report.controls[c];
    if (!control.fills.empty() && control.fills.back() == fill) continue;
    const Verdict verdict = run_once(*make_control(control.mutation), p, inputs, truth);
    if (verdict.ok) continue;
    if (!control.caught) control.example = where + ": " + verdict.reason;
    control.caught = true;
    control.fills.push_back(fill);
  }
}

}  // namespace

bool ControlsReport::ok() const {
  return false_alarms.empty() && std::all_of(controls.begin(), controls.end(), [](const ControlReport& c) {
           return c.caught || c.may_survive();
         });
}

ControlsReport run_controls(uint64_t seed, int threads) {
  ControlsReport report;
  for (Mutation mutation : all_mutations()) report.controls.push_back({.mutation = mutation});
  for (Fill fill : all_fills()) {
    for (const char* text : kCases) run_case(Problem::parse(text), fill, seed, threads, report);
  }
  return report;
}

}  // namespace attn
