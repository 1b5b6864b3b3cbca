// Measuring: memory, thread state, environment, load of the host; and that no registered variant allocates
// while it runs.

#include <link.h>
#include <omp.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cfenv>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "harness/measure/environment.h"
#include "harness/measure/host_load.h"
#include "harness/measure/memory.h"
#include "harness/measure/thread_state.h"
#include "harness/registry.h"
#include "harness/run/binding.h"
#include "tests/catch.h"
#include "tests/scratch_folder.h"

using namespace attn;

// The allocation probe: this program's malloc family stands in front of the C library's, counts, and passes
// on. A sanitizer has its own in front. The OpenMP runtime is left out: GNU's allocates its own record of a
// team of one thread at every parallel region, which no variant can help.
#if !defined(__SANITIZE_ADDRESS__)
namespace {

struct CodeRange {
  uintptr_t begin = 0, end = 0;
  bool contains(const void* address) const {
    const auto value = reinterpret_cast<uintptr_t>(address);
    return begin <= value && value < end;
  }
};

CodeRange find_openmp_runtime() {
  CodeRange range;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* result) {
        if (!std::strstr(info->dlpi_name, "libgomp") && !std::strstr(info->dlpi_name, "libomp")) return 0;
        for (int k = 0; k < info->dlpi_phnum; ++k) {
          const auto& header = info->dlpi_phdr[k];
          if (header.p_type != PT_LOAD || !(header.p_flags & PF_X)) continue;
          const uintptr_t begin = info->dlpi_addr + header.p_vaddr;
          *static_cast<CodeRange*>(result) = {begin, begin + header.p_memsz};
        }
        return 1;
      },
      &range);
  return range;
}

std::atomic<int64_t> allocations{0};
CodeRange openmp_runtime;  // empty until the first probe test

void count_allocation(const void* caller) {
  if (!openmp_runtime.contains(caller)) ++allocations;
}

}  // namespace

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);

void* malloc(size_t bytes) {
  count_allocation(__builtin_return_address(0));
  return __libc_malloc(bytes);
}
void* calloc(size_t count, size_t bytes) {
  count_allocation(__builtin_return_address(0));
  return __libc_calloc(count, bytes);
}
void* realloc(void* memory, size_t bytes) {
  count_allocation(__builtin_return_address(0));
  return __libc_realloc(memory, bytes);
}
void* memalign(size_t alignment, size_t bytes) {
  count_allocation(__builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(size_t alignment, size_t bytes) {
  count_allocation(__builtin_return_address(0));
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** memory, size_t alignment, size_t bytes) {
  count_allocation(__builtin_return_address(0));
  *memory = __libc_memalign(alignment, bytes);
  return *memory ? 0 : ENOMEM;
}
}

TEST_CASE("the allocation probe sees every kind of allocation") {
  const auto counted = [](auto work) {
    const int64_t before = allocations;
    work();
    return allocations - before;
  };
  void* volatile memory = nullptr;
  CHECK(counted([&] { memory = std::malloc(10); }) == 1);
  std::free(memory);
  CHECK(counted([&] { memory = ::operator new(10); }) == 1);
  ::operator delete(memory);
  CHECK(counted([&] { memory = ::operator new (64, std::align_val_t{64}); }) == 1);
  ::operator delete (memory, std::align_val_t{64});
  CHECK(counted([&] { memory = std::aligned_alloc(64, 64); }) == 1);
  std::free(memory);
  CHECK(counted([] {}) == 0);
}

namespace {

/// Allocations of a call that is not the first.
int64_t allocations_of_call(const Variant& variant, const Problem& problem, int threads) {
  Binding binding(variant, problem, make_inputs(problem, Fill::normal, 1), {.threads = threads});
  binding.run();  // thread teams and the like start here
  const int64_t before = allocations;
  binding.run();
  return allocations - before;
}

/// Takes scratch from the heap.
class Allocating final : public Variant {
 public:
  Allocating() : Variant({.name = "control/allocating"}) {}
  Support supports(const Problem&) const override { return {}; }
  void plan(const Context&, const Problem&, Workspace&) const override {}
  Cost cost(const Problem&) const override { return {}; }
  void forward(const Context&, const Problem& p, const Forward& args, Workspace&) const override {
    const std::vector<float> scratch(static_cast<size_t>(p.seq_kv), 1.f);
    *args.o.row<float>(0, 0, 0) = scratch.back();
  }
};

}  // namespace

TEST_CASE("a variant that allocates is caught") {
  CHECK(allocations_of_call(Allocating(), Problem::parse("hq=1,nq=8,d=8"), 1) == 1);
}

TEST_CASE("no variant allocates in forward or backward") {
  const char* problems[] = {
      "hq=3,nq=70,d=16",
      "hq=4,hk=2,nq=65,nk=97,d=17,mask=causal",
      "b=2,hq=2,nq=130,d=64,mask=causal+window:40:0+padding:80%",
      "hq=2,nq=70,d=16,mask=causal,pos=alibi",
      "hq=2,nq=70,d=16,pos=shaw:4",
      "hq=2,nq=70,d=16,pos=t5:8:32",
      "hq=2,nq=70,d=16,pos=rope:10000",
      "hq=2,nq=300,d=64",
  };
  openmp_runtime = find_openmp_runtime();
  for (const Variant* variant : all_variants()) {
    const Info& info = variant->info();
    if (info.device != Device::cpu) continue;
    // Other people's libraries take their scratch where they like; see memory_process_peak_bytes.
    if (std::find(info.tags.begin(), info.tags.end(), "peer") != info.tags.end()) continue;
    size_t ran = 0;
    for (const char* text : problems) {
      for (Pass pass : {Pass::fwd, Pass::bwd}) {
        for (int threads : {1, 2}) {
          const Problem problem = Problem::parse(text).with(pass);
          if (!support_of(*variant, problem)) continue;
          INFO(variant->info().name << " " << problem.text() << " threads " << threads);
          CHECK(allocations_of_call(*variant, problem, threads) == 0);
          ++ran;
        }
      }
    }
    INFO(variant->info().name);
    CHECK(ran > 0);
  }
}
#endif

TEST_CASE("thread state: every change is told and put back on all threads") {
  const int former = omp_get_max_threads();
  const ThreadState state(2);
  const FloatMode normal = float_mode();
  CHECK(state.restore() == "");
  std::fesetround(FE_UPWARD);
  CHECK(state.restore().find("another rounding") != std::string::npos);
  CHECK(float_mode() == normal);
  omp_set_num_threads(3);
  CHECK(state.restore() == "the number of OpenMP threads (2 to 3)");
  CHECK(omp_get_max_threads() == 2);
#pragma omp parallel num_threads(2)
  if (omp_get_thread_num() == 1) std::fesetround(FE_DOWNWARD);
  CHECK(state.restore().find("floating-point mode") != std::string::npos);
  CHECK(state.restore() == "");
  omp_set_num_threads(former);
}

TEST_CASE("the process peak sees memory that is gone again") {
  PeakProbe probe;
  probe.arm();
  if (!probe.growth_bytes()) return;  // /proc/self/clear_refs is hidden here
  constexpr size_t kBytes = size_t{64} << 20;
  void* memory = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  REQUIRE(memory != MAP_FAILED);
  std::memset(memory, 1, kBytes);
  munmap(memory, kBytes);
  CHECK(static_cast<double>(*probe.growth_bytes()) >= 0.95 * kBytes);
  CHECK(static_cast<double>(*probe.growth_bytes()) <= 1.3 * kBytes);
  PeakProbe later;
  later.arm();
  CHECK(*later.growth_bytes() < static_cast<int64_t>(kBytes / 4));
}

TEST_CASE("available memory is a positive part of what the machine has") {
  const int64_t available = available_memory_bytes();
  CHECK(available > 0);
  CHECK(available <= describe_environment()["memory_bytes"].get<int64_t>());
}

TEST_CASE("the environment has every part, absent ones as null") {
  const nlohmann::json environment = describe_environment();
  for (const char* key : {"cpu", "memory_bytes", "gpu", "system", "kernel", "build", "libraries"}) {
    INFO(key);
    CHECK(environment.contains(key));
  }
  for (const char* key : {"model", "cores", "caches", "frequency_governor", "hypervisor"}) {
    INFO(key);
    CHECK(environment["cpu"].contains(key));
  }
  for (const char* key : {"commit", "dirty", "compiler", "flags"}) CHECK(environment["build"].contains(key));
  for (const auto& [name, version] : environment["libraries"].items()) {
    INFO(name);
    CHECK(!version.get<std::string>().empty());
  }
  CHECK(environment["gpu"].is_null() == !device_missing(Device::cuda).empty());
}

TEST_CASE("the load of the host: shares of time from the kernel's counters, absent where it has none") {
  const ScratchFolder folder;
  std::filesystem::create_directories(folder / "pressure");
  const auto write = [&](const char* stat, const char* pressure) {
    std::ofstream(folder / "stat") << stat;
    std::ofstream(folder / "pressure/cpu") << pressure;
    return read_host_load(folder.path());
  };
  HostLoad from =
      write("cpu  10 0 10 70 0 0 0 10 5 0\ncpu0 1 1\n", "some avg10=0.00 total=1000\nfull total=9\n");
  HostLoad to = write("cpu  20 0 20 130 0 0 0 30 9 0\n", "some avg10=1.00 total=501000\n");
  CHECK(*from.all_jiffies == 100);
  from.time_s = 1;
  to.time_s = 2;
  CHECK(*steal_fraction(from, to) == 0.2);
  CHECK(*cpu_pressure(from, to) == 0.5);
  CHECK(!steal_fraction(to, to));
  CHECK(*steal_fraction(from, write("cpu  20 0 20 130 0 0 0 5 9 0\n", "")) == 0);  // a counter that went back
  CHECK(!cpu_pressure(from, write("", "")));
  CHECK(!steal_fraction(from, write("cpu  1 2 3\n", "")));
  CHECK(read_host_load().all_jiffies.has_value());
}
