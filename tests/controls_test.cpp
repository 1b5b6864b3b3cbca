// The check must reject every planted error, and accept the same kernel without one.

#include "harness/oracle/controls.h"

#include "tests/catch.h"

using namespace attn;

TEST_CASE("every known-wrong control is caught and the correct kernel passes") {
  const ControlsReport report = run_controls(1, 2);
  for (const std::string& alarm : report.false_alarms) FAIL_CHECK(alarm);
  for (const ControlReport& control : report.controls) {
    INFO(to_text(control.mutation));
    CHECK((control.caught || control.may_survive()));
  }
  CHECK(report.controls.size() >= 45);
  CHECK(report.ok());
}

TEST_CASE("controls are not offered to the user") {
  for (Mutation mutation : all_mutations()) {
    CHECK(to_text(mutation) != "none");
    CHECK(make_control(mutation)->info().family == "control");
  }
}
