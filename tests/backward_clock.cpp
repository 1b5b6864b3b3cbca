// Preloaded by tests/faults_test.cpp: a wall clock that is an hour earlier whenever it is asked again.

#include <dlfcn.h>
#include <time.h>

#include <atomic>

namespace {
std::atomic<long> hours{0};
}

extern "C" int clock_gettime(clockid_t clock, timespec* now) {
  using Function = int (*)(clockid_t, timespec*);
  static const Function real = reinterpret_cast<Function>(dlsym(RTLD_NEXT, "clock_gettime"));
  const int result = real(clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec -= 3600 * ++hours;
  return result;
}

extern "C" time_t time(time_t* now) {
  timespec moment{};
  clock_gettime(CLOCK_REALTIME, &moment);
  if (now) *now = moment.tv_sec;
  return moment.tv_sec;
}
