// Peers: asked for what they support without being loaded, in one process with this program's own OpenMP
// runtime, and on as many threads as they were told. Without their libraries there is nothing to test.

#include <link.h>
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#include "harness/registry.h"
#include "harness/run/binding.h"
#include "tests/catch.h"

using namespace attn;

namespace {

std::vector<const Variant*> peers() {
  std::vector<const Variant*> found;
  for (const Variant* variant : all_variants()) {
    const auto& tags = variant->info().tags;
    if (std::find(tags.begin(), tags.end(), "peer") != tags.end()) found.push_back(variant);
  }
  if (found.empty()) WARN("skipped: no peer in this build (attnbench peers install)");
  return found;
}

/// Paths of the loaded libraries whose name contains `part`.
std::set<std::string> loaded_libraries(const char* part) {
  struct Search {
    const char* part;
    std::set<std::string> paths;
  } search{part, {}};
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* data) {
        auto& wanted = *static_cast<Search*>(data);
        if (std::strstr(info->dlpi_name, wanted.part)) wanted.paths.insert(info->dlpi_name);
        return 0;
      },
      &search);
  return search.paths;
}

double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// CPU seconds per second while the variant works.
double occupancy(Binding& binding) {
  binding.run();
  const auto start = std::chrono::steady_clock::now();
  const double cpu = cpu_seconds();
  double wall = 0;
  while (wall < 0.5) {
    binding.run();
    wall = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }
  return (cpu_seconds() - cpu) / wall;
}

}  // namespace

TEST_CASE("a peer is not loaded to say what it supports") {
  for (const Variant* peer : peers()) {
    CHECK(peer->supports(Problem::parse("hq=2,nq=64,d=16")));
    CHECK_FALSE(peer->info().version.empty());
  }
  CHECK(loaded_libraries("libattn_peer").empty());
}

TEST_CASE("one OpenMP runtime serves this program and the peers") {
  for (const Variant* peer : peers()) peer->load();
  CHECK(loaded_libraries("libgomp").size() == 1);
  CHECK(loaded_libraries("libomp").empty());
  CHECK(loaded_libraries("libiomp").empty());
}

TEST_CASE("a peer keeps to its number of threads") {
  for (const Variant* peer : peers()) {
    for (Pass pass : {Pass::fwd, Pass::bwd}) {
      const Problem problem = Problem::parse("hq=4,nq=512,d=64").with(pass);
      if (!support_of(*peer, problem)) continue;
      INFO(peer->info().name << " " << problem.text());
      const Inputs<float> inputs = make_inputs(problem, Fill::normal, 1);
      // More threads first: those that are left over must not work, nor spin, in the calls of one thread.
      Binding two(*peer, problem, inputs, {.threads = 2});
      two.run();
      Binding one(*peer, problem, inputs, {.threads = 1});
      CHECK(occupancy(one) < 1.5);
    }
  }
}

TEST_CASE("a peer's threads rest between calls") {
  for (const Variant* peer : peers()) {
    const Problem problem = Problem::parse("hq=4,nq=256,d=64");
    INFO(peer->info().name);
    Binding binding(*peer, problem, make_inputs(problem, Fill::normal, 1), {.threads = 2});
    for (int call = 0; call < 10; ++call) binding.run();
    const double cpu = cpu_seconds();
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    CHECK(cpu_seconds() - cpu < 0.1);  // the next variant's round would lose what they spin
  }
}
