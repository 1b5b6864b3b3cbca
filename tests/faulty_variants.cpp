// Variants that misbehave on purpose, for the tests of the supervisor. Each computes attention by delegating
// to the reference variant and then does its harm.

#include <omp.h>
#include <unistd.h>

#include <cfenv>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <limits>
#include <new>
#include <thread>
#include <vector>

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

#include "harness/registry.h"
#include "harness/variant.h"

namespace attn {
namespace {

enum class Harm {
  segfault,
  divides_by_zero,
  abort,
  exit,
  hang,
  throws,
  no_memory,
  takes_all_memory,
  wrong,
  nan,
  overruns,
  overruns_scratch,
  uses_stale_scratch,
  unsteady,
  flushes_denormals,
  rounds_up,
  sets_threads,
  huge_plan,
  slow,
  prints,
  forks,
  waits
};

class Faulty final : public Variant {
 public:
  Faulty(std::string name, Harm harm)
      : Variant({.name = std::move(name), .family = "faulty", .tags = {"faulty"}}), harm_(harm) {}

  Support supports(const Problem& problem) const override {
    if (problem.head_dim == 13) return {"13 is unlucky"};
    return reference().supports(problem);
  }
  void plan(const Context& context, const Problem& problem, Workspace& workspace) const override {
    if (harm_ == Harm::huge_plan) workspace.take<float>("everything", int64_t{1} << 50);
    if (needs_scratch()) workspace.take<float>("scratch", kScratch);
    reference().plan(context, problem, workspace);
  }
  Cost cost(const Problem& problem) const override { return reference().cost(problem); }
  void forward(const Context& context, const Problem& problem, const Forward& args,
               Workspace& workspace) const override {
    float* scratch = needs_scratch() ? workspace.take<float>("scratch", kScratch) : nullptr;
    reference().forward(context, problem, args, workspace);
    float* o = args.o.row<float>(0, 0, 0);
    switch (harm_) {
      case Harm::segfault:
        std::raise(SIGSEGV);
        break;
      case Harm::divides_by_zero:
        std::raise(SIGFPE);
        break;
      case Harm::abort:
        std::abort();
      case Harm::exit:
        std::_Exit(0);
      case Harm::throws:
        throw std::runtime_error("a line\nand another, with \"quotes\"");
      case Harm::no_memory:
        throw std::bad_alloc();
      case Harm::takes_all_memory:
        for (std::vector<std::vector<char>> taken;;) taken.emplace_back(size_t{64} << 20, 'x');
      case Harm::hang:
        std::signal(SIGTERM, SIG_IGN);
        for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
      case Harm::wrong:
        o[0] += 0.25f;
        break;
      case Harm::nan:
        o[0] = std::numeric_limits<float>::quiet_NaN();
        break;
      case Harm::overruns:
        o[problem.batch * problem.seq_q * problem.heads_q * problem.value_dim] = 0;
        break;
      case Harm::overruns_scratch:
        scratch[kScratch] = 0;
        break;
      case Harm::uses_stale_scratch:
        o[0] += scratch[0];  // zero in fresh memory, most of the time
        break;
      case Harm::unsteady:
        o[0] = std::nextafter(o[0], ++calls_ % 2 ? 1e30f : -1e30f);
        break;
      case Harm::flushes_denormals:
        flush_denormals();
        break;
      case Harm::rounds_up:
        std::fesetround(FE_UPWARD);
        break;
      case Harm::sets_threads:
        omp_set_num_threads(context.threads + 1);
        break;
      case Harm::slow:
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
        break;
      case Harm::prints:
        std::printf("noise on standard output\n");
        std::fflush(stdout);
        break;
      case Harm::forks:
        if (fork() == 0) pause();  // left behind in the process group
        std::abort();
      case Harm::waits:
        if (problem.mask.text() != "none") wait_while_there(std::getenv("ATTN_TEST_GATE"));
        break;
      case Harm::huge_plan:
        break;
    }
  }

 private:
  static constexpr int64_t kScratch = 64;
  bool needs_scratch() const { return harm_ == Harm::overruns_scratch || harm_ == Harm::uses_stale_scratch; }
  static void flush_denormals() {
#if defined(__SSE__)
    _mm_setcsr(_mm_getcsr() | 0x8040);  // FTZ and DAZ
#elif defined(__aarch64__)
    __builtin_aarch64_set_fpcr(__builtin_aarch64_get_fpcr() | (1u << 24));
#endif
  }
  static void wait_while_there(const char* gate) {
    while (gate && access(gate, F_OK) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  static const Variant& reference() { return find_variant("reference/cpu"); }
  Harm harm_;
  mutable int calls_ = 0;
};

ATTN_REGISTER(std::make_unique<Faulty>("faulty/segfault", Harm::segfault));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/abort", Harm::abort));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/exit", Harm::exit));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/hang", Harm::hang));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/throws", Harm::throws));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/no_memory", Harm::no_memory));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/wrong", Harm::wrong));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/huge_plan", Harm::huge_plan));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/forks", Harm::forks));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/divides_by_zero", Harm::divides_by_zero));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/nan", Harm::nan));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/overruns", Harm::overruns));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/overruns_scratch", Harm::overruns_scratch));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/uses_stale_scratch", Harm::uses_stale_scratch));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/flushes_denormals", Harm::flushes_denormals));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/rounds_up", Harm::rounds_up));
ATTN_REGISTER(std::make_unique<Faulty>("faulty/sets_threads", Harm::sets_threads));
ATTN_REGISTER(std::make_unique<Faulty>("greedy/cpu", Harm::takes_all_memory));
ATTN_REGISTER(std::make_unique<Faulty>("unsteady/cpu", Harm::unsteady));
ATTN_REGISTER(std::make_unique<Faulty>("slow/cpu", Harm::slow));
ATTN_REGISTER(std::make_unique<Faulty>("prints/cpu", Harm::prints));
ATTN_REGISTER(std::make_unique<Faulty>("waits/cpu", Harm::waits));

}  // namespace
}  // namespace attn
