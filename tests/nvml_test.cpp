// NVML through a library that stands in for it: clocks, a throttled spell, what a driver does not tell.

#include "harness/measure/nvml.h"

#include <cstdlib>

#include "tests/catch.h"

using namespace attn;

namespace {

const std::string kBus = "0000:01:00.0";

void set_mode(const char* mode) { setenv("ATTN_FAKE_NVML", mode, 1); }

}  // namespace

TEST_CASE("what slows a clock down is named, being idle or set is not") {
  CHECK(throttle_text(0) == "no");
  CHECK(throttle_text(0x1) == "no");         // idle
  CHECK(throttle_text(0x2 | 0x10) == "no");  // an application's clock, synchronised with others
  CHECK(throttle_text(0x4) == "power_cap");
  CHECK(throttle_text(0x8 | 0x40) == "hw_slowdown+hw_thermal");
  CHECK(throttle_text(0x1 | 0x20 | 0x80) == "sw_thermal+power_brake");
}

TEST_CASE("a healthy driver tells clock, power, temperature and settings") {
  set_mode("");
  const Nvml nvml(ATTN_FAKE_NVML_LIBRARY, kBus);
  CHECK(nvml.missing() == "");
  CHECK(nvml.clock().hz == 1755e6);
  CHECK(nvml.clock().throttled == "no");
  const auto state = nvml.state();
  CHECK(state["power_w"] == 312.5);
  CHECK(state["temperature_c"] == 41);
  CHECK(state["sm_clock_hz"] == 1755e6);
  CHECK(state["memory_clock_hz"] == 2619e6);
  CHECK(state["throttled"] == "no");
  const auto configuration = nvml.configuration();
  CHECK(configuration["driver"] == "580.65.06");
  CHECK(configuration["power_limit_w"] == 600);
  CHECK(configuration["power_limit_default_w"] == 700);
  CHECK(configuration["sm_clock_max_hz"] == 1980e6);
  CHECK(configuration["persistence"] == "on");
  CHECK(configuration["ecc"] == "on");
  CHECK(configuration["mig"] == "off");
}

TEST_CASE("a throttled spell shows in the readings within it, and only there") {
  set_mode("");
  const Nvml nvml(ATTN_FAKE_NVML_LIBRARY, kBus);
  set_mode("1:1000000");
  CHECK(nvml.clock().throttled == "power_cap+sw_thermal");
  CHECK(nvml.clock().hz == 1200e6);
  CHECK(nvml.state()["throttled"] == "power_cap+sw_thermal");
  set_mode("1000000:1000001");
  CHECK(nvml.clock().throttled == "no");
  CHECK(nvml.clock().hz == 1755e6);
}

TEST_CASE("what a driver does not tell is null, and the rest is there") {
  set_mode("bare");
  const Nvml nvml(ATTN_FAKE_NVML_LIBRARY, kBus);
  CHECK(nvml.missing() == "");
  CHECK(nvml.state()["power_w"].is_null());
  CHECK(nvml.state()["temperature_c"] == 41);
  CHECK(nvml.configuration()["ecc"].is_null());
  CHECK(nvml.configuration()["mig"].is_null());
  CHECK(nvml.configuration()["power_limit_w"].is_null());
  CHECK(nvml.configuration()["persistence"] == "on");
}

TEST_CASE("without NVML nothing is known, and one line says why") {
  const auto check_nothing = [](const Nvml& nvml, const std::string& words) {
    CHECK_THAT(nvml.missing(), Catch::Contains(words));
    CHECK(nvml.missing().find('\n') == std::string::npos);
    CHECK(!nvml.clock().hz);
    CHECK(nvml.clock().throttled == "");
    CHECK(nvml.state().is_null());
    CHECK(nvml.configuration().is_null());
  };
  set_mode("");
  check_nothing(Nvml("/nonexistent/libnvidia-ml.so.1", kBus), "/nonexistent/libnvidia-ml.so.1");
  check_nothing(Nvml(ATTN_FAKE_NVML_LIBRARY, "0000:99:00.0"), "0000:99:00.0: Not Found");
  check_nothing(Nvml(ATTN_NOT_NVML_LIBRARY, kBus), "lacks its functions");
  set_mode("broken");
  check_nothing(Nvml(ATTN_FAKE_NVML_LIBRARY, kBus), "Driver Not Loaded");
}
