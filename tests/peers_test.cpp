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

#include "harness/oracle/oracle.h"
#include "harness/registry.h"
#include "harness/run/binding.h"
#include "tests/catch.h"

using namespace attn;

namespace {

bool is_peer(const Variant& variant) {
  const auto& tags = variant.info().tags;
  return std::find(tags.begin(), tags.end(), "peer") != tags.end();
}

/// Those that can run here.
std::vector<const Variant*> peers() {
  std::vector<const Variant*> found;
  for (const Variant* variant : all_variants()) {
    if (is_peer(*variant) && device_missing(variant->info().device).empty()) found.push_back(variant);
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

TEST_CASE("peers on a GPU say what they take, with or without one") {
  struct Question {
    const char* variant;
    const char* problem;
    bool taken;
  };
  const Question questions[] = {
      {"peers/torch/cuda/cudnn", "hq=4,hk=2,nq=256,d=128,dtype=bf16,mask=causal,pass=bwd", true},
      {"peers/torch/cuda/cudnn", "hq=4,nq=256,d=128", false},  // float32
      {"peers/torch/cuda/cudnn", "hq=4,nq=1,nk=256,d=128,dtype=bf16", false},
      {"peers/torch/cuda/flash", "hq=4,nq=1,nk=256,d=128,dtype=f16", true},
      {"peers/torch/cuda/flash", "hq=4,nq=100,nk=256,d=128,dtype=f16,mask=causal", false},
      {"peers/torch/cuda/flash", "hq=4,nq=256,d=100,dtype=f16", false},  // rows of 200 bytes
      {"peers/torch/cuda/flash", "hq=4,nq=256,d=128,dtype=f16,mask=window:8:0", false},
      {"peers/torch/cuda/efficient", "hq=4,nq=256,d=64,pass=bwd", true},
      {"peers/torch/cuda/efficient", "hq=4,nq=250,d=64,pass=bwd", false},
      {"peers/torch/cuda/efficient", "hq=4,hk=2,nq=256,d=64", false},
      {"peers/torch/cuda/math", "hq=4,hk=2,nq=250,d=41,mask=causal", true},
      {"peers/torch/cuda/math", "hq=4,nq=256,d=64,pass=bwd", false},
      {"peers/cudnn/cuda", "hq=4,nq=256,d=64,dtype=bf16,mask=causal+window:63:0,pass=bwd", true},
      {"peers/cudnn/cuda", "hq=4,nq=256,d=64,dtype=bf16,mask=window:63:63", false},
      {"peers/cudnn/cuda", "hq=4,nq=256,d=64,dtype=bf16,mask=causal+window:63:0,pos=alibi", false},
      {"peers/flex/cuda", "hq=4,hk=2,nq=200,nk=300,d=64,dtype=bf16,mask=padding:50%,pos=alibi,softcap=3",
       true},
      {"peers/flex/cuda", "hq=4,nq=256,d=64,dtype=bf16,pos=rope:10000", false},
      {"peers/flex/cuda", "hq=4,nq=256,d=64,dtype=bf16,pos=t5:8:32,pass=bwd", false},
  };
  for (const Question& question : questions) {
    const auto& all = all_variants();
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Variant* v) { return v->info().name == question.variant; });
    if (found == all.end()) continue;  // not in this build
    INFO(question.variant << " " << question.problem);
    const Support support = (*found)->supports(Problem::parse(question.problem));
    CHECK(bool(support) == question.taken);
    const std::string missing = device_missing(Device::cuda);
    if (!missing.empty()) CHECK(support_of(**found, Problem::parse(question.problem)).reason == missing);
  }
}

TEST_CASE("a peer in another process agrees with the oracle and times itself") {
  const auto& all = all_variants();
  const auto found = std::find_if(all.begin(), all.end(),
                                  [](const Variant* v) { return v->info().name == "peers/flex/cpu"; });
  if (found == all.end()) return;
  const char* const problems[] = {"b=2,hq=4,hk=2,nq=150,d=32,mask=causal+window:40:0,pos=alibi",
                                  "b=2,hq=2,nq=130,nk=200,d=16,mask=padding:60/130,pos=t5:8:32"};
  for (const char* text : problems) {
    INFO(text);
    const Problem problem = Problem::parse(text);
    const Inputs<float> inputs = make_inputs(problem, Fill::normal, 1);
    const Truth truth = make_truth(problem, inputs, {});
    for (Layout layout : {Layout::seq_major, Layout::head_major}) {
      Binding binding(**found, problem, inputs, {.threads = 2, .layout = layout, .guarded = true});
      binding.run();
      const Verdict verdict = compare(problem, truth, binding.outputs());
      INFO(verdict.reason);
      CHECK(verdict.ok);
      CHECK(binding.overruns().empty());
      CHECK(binding.time_s(3) > 0);
    }
  }
}
