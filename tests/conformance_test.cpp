// Every registered variant agrees with the truth on a reduced suite; the whole one is `attnbench check`.

#include <hwy/targets.h>

#include "harness/oracle/check.h"
#include "harness/oracle/control_kernel.h"
#include "harness/registry.h"
#include "tests/catch.h"

using namespace attn;

TEST_CASE("every variant conforms on the quick suite") {
  BlockFiles files;
  CheckPlan plan{.variants = all_variants(), .cases = check_cases(SuiteSize::quick, files), .threads = 2};
  plan.fills = {Fill::peaked, Fill::late_max};
  REQUIRE_FALSE(plan.variants.empty());
  for (const VariantReport& report : check(plan)) {
    INFO(report.variant);
    for (const CheckFailure& failure : report.failures) FAIL_CHECK(failure.what << "\n" << failure.command);
    CHECK(report.worst <= 1);
    CHECK(report.cases + report.unsupported == static_cast<int64_t>(plan.cases.size() * plan.fills.size()));
  }
}

namespace {

/// Compiled for `target` and able to run here: a native build has one instruction set, a portable one all.
void check_with(int64_t target) {
  INFO(hwy::TargetName(target));
  hwy::SetSupportedTargetsForTest(target);
  BlockFiles files;
  CheckPlan plan{.variants = select_variants("^(flash|block_sparse)/cpu$"),
                 .cases = check_cases(SuiteSize::quick, files),
                 .fills = {Fill::peaked},
                 .threads = 2};
  const std::vector<VariantReport> reports = check(plan);
  hwy::SetSupportedTargetsForTest(0);
  for (const VariantReport& report : reports) {
    CHECK(report.cases >= 40);
    for (const CheckFailure& failure : report.failures) FAIL_CHECK(failure.what);
  }
}

}  // namespace

TEST_CASE("the kernels conform on every instruction set") {
  const std::vector<int64_t> targets = hwy::SupportedAndGeneratedTargets();
  REQUIRE_FALSE(targets.empty());
  for (const int64_t target : targets) check_with(target);
}

TEST_CASE("the tiled forward gives the same bits for every number of threads") {
  for (const char* text :
       {"hq=3,nq=300,d=40,mask=causal,pos=alibi", "b=2,hq=4,hk=2,nq=130,d=64,mask=window:50:9",
        "hq=4,hk=1,nq=2,nk=1300,d=24,mask=causal", "hq=8,nq=1,nk=2100,d=64,dtype=bf16"}) {
    const Problem problem = Problem::parse(text);
    const Inputs<float> inputs = make_inputs(problem, Fill::peaked, 1);
    for (const char* name : {"flash/cpu", "block_sparse/cpu"}) {
      const Variant& variant = find_variant(name);
      if (!support_of(variant, problem)) continue;
      INFO(name << " " << text);
      const auto run = [&](int threads) {
        Binding binding(variant, problem, inputs, {.threads = threads});
        binding.run();
        return binding.outputs();
      };
      const Outputs<float> one = run(1);
      for (const int threads : {2, 3, 7}) {
        const Outputs<float> several = run(threads);
        CHECK(several.o == one.o);
        CHECK(several.lse == one.lse);
      }
    }
  }
}

TEST_CASE("the suite covers every kind of problem") {
  BlockFiles files;
  for (SuiteSize size : {SuiteSize::quick, SuiteSize::full}) {
    std::string all;
    for (const Case& checked : check_cases(size, files)) all += checked.problem.text() + ";";
    for (const char* part : {"pass=bwd", "mask=causal", "causal:topleft",
                             "window:", "padding:", "blocks:", "shaw:", "shaw-keys:", "alibi",
                             "t5:", "rope:", "rope-interleaved:", "softcap", "scope=block"}) {
      INFO(part);
      CHECK(all.find(part) != std::string::npos);
    }
  }
}

TEST_CASE("a failure names the command that reruns it") {
  const auto broken = make_control(Mutation::last_key_dropped);
  CheckPlan plan{
      .variants = {broken.get()}, .cases = {{Problem::parse("hq=1,nq=5,d=4")}}, .fills = {Fill::normal}};
  const VariantReport report = check(plan).front();
  REQUIRE(report.failures.size() == 1);
  CHECK(report.failures[0].command ==
        "attnbench check --variants '^control/last_key_dropped$' --problem "
        "b=1,hq=1,hk=1,nq=5,nk=5,d=4,dv=4,dtype=f32,pass=fwd,mask=none,pos=none --fill normal --seed 1");
  CHECK(report.worst > 1);
}

namespace {

/// Changes its result from call to call, or writes one element past O.
class Unsteady final : public Variant {
 public:
  explicit Unsteady(bool overruns) : Variant({.name = "control/unsteady"}), overruns_(overruns) {}
  Support supports(const Problem&) const override { return {}; }
  void plan(const Context&, const Problem&, Workspace&) const override {}
  Cost cost(const Problem&) const override { return {}; }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    control_->forward(context, p, args, workspace);
    float* o = args.o.row<float>(0, 0, 0);
    if (overruns_) {
      o[p.seq_q * p.heads_q * p.value_dim] = 0;
    } else {
      o[0] *= ++calls_ % 2 ? 1 : 1 + 1e-7f;
    }
  }

 private:
  std::unique_ptr<Variant> control_ = make_control(Mutation::none);
  bool overruns_;
  mutable int calls_ = 0;
};

CaseOutcome outcome_of(const Variant& variant) {
  const Case checked{Problem::parse("hq=1,nq=5,d=4")};
  const Inputs<float> inputs = make_checked_inputs(checked.problem, Fill::normal, 1);
  return check_case(variant, checked, inputs, make_truth(checked.problem, inputs, {}), 1);
}

}  // namespace

TEST_CASE("a result that changes between runs is labelled") {
  CHECK(outcome_of(*make_control(Mutation::none)).deterministic);
  const CaseOutcome outcome = outcome_of(Unsteady(false));
  CHECK(outcome.ok);
  CHECK_FALSE(outcome.deterministic);
}

TEST_CASE("writing past an output is a failure") {
  const CaseOutcome outcome = outcome_of(Unsteady(true));
  CHECK_FALSE(outcome.ok);
  CHECK(outcome.reason.find("wrote beyond o") == 0);
}
