// Stands in for libnvidia-ml.so.1, for one device on bus 0000:01:00.0. ATTN_FAKE_NVML says how: empty, a
// healthy driver; "broken", it does not start; "bare", it knows neither power, ECC nor MIG; "FROM:TO", the
// clock is throttled by power and temperature from reading FROM up to reading TO.

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr int kOk = 0, kNotSupported = 3, kNotFound = 6, kDriverNotLoaded = 9;

std::string mode() {
  const char* text = std::getenv("ATTN_FAKE_NVML");
  return text ? text : "";
}

std::atomic<int> readings{0};

bool in_spell(int reading) {
  int from = 0, to = 0;
  return std::sscanf(mode().c_str(), "%d:%d", &from, &to) == 2 && from <= reading && reading < to;
}

int give(unsigned* to, unsigned value) {
  if (mode() == "bare") return kNotSupported;
  *to = value;
  return kOk;
}

int device = 0;

}  // namespace

extern "C" {

int nvmlInit_v2() { return mode() == "broken" ? kDriverNotLoaded : kOk; }
int nvmlShutdown() { return kOk; }
const char* nvmlErrorString(int status) {
  return status == kDriverNotLoaded ? "Driver Not Loaded"
         : status == kNotFound      ? "Not Found"
                                    : "Unknown Error";
}
int nvmlDeviceGetHandleByPciBusId_v2(const char* bus_id, void** handle) {
  if (std::strcmp(bus_id, "0000:01:00.0") != 0) return kNotFound;
  *handle = &device;
  return kOk;
}
int nvmlSystemGetDriverVersion(char* text, unsigned bytes) {
  std::snprintf(text, bytes, "580.65.06");
  return kOk;
}
int nvmlDeviceGetClockInfo(void*, int type, unsigned* mhz) {
  if (type == 1) ++readings;
  *mhz = type == 2 ? 2619 : in_spell(readings) ? 1200 : 1755;
  return kOk;
}
int nvmlDeviceGetMaxClockInfo(void*, int type, unsigned* mhz) {
  *mhz = type == 2 ? 2619 : 1980;
  return kOk;
}
int nvmlDeviceGetCurrentClocksThrottleReasons(void*, unsigned long long* reasons) {  // the older name
  *reasons = in_spell(readings) ? 0x04 | 0x20 : 0x02;
  return kOk;
}
int nvmlDeviceGetPowerUsage(void*, unsigned* mw) { return give(mw, 312500); }
int nvmlDeviceGetEnforcedPowerLimit(void*, unsigned* mw) { return give(mw, 600000); }
int nvmlDeviceGetPowerManagementDefaultLimit(void*, unsigned* mw) { return give(mw, 700000); }
int nvmlDeviceGetTemperature(void*, int, unsigned* degrees) {
  *degrees = 41;
  return kOk;
}
int nvmlDeviceGetPersistenceMode(void*, int* on) {
  *on = 1;
  return kOk;
}
int nvmlDeviceGetEccMode(void*, int* now, int* later) {
  unsigned value = 0;
  const int status = give(&value, 1);
  *now = *later = static_cast<int>(value);
  return status;
}
int nvmlDeviceGetMigMode(void*, unsigned* now, unsigned* later) {
  *later = 0;
  return give(now, 0);
}

}  // extern "C"
