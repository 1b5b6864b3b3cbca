// Variants that misbehave on purpose, for the tests of the supervisor. Each computes attention by delegating
// to the reference variant and then does its harm.

#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <new>
#include <thread>

#include "harness/registry.h"
#include "harness/variant.h"

namespace attn {
namespace {

enum class Harm {
  segfault,
  abort,
  exit,
  hang,
  throws,
  no_memory,
  wrong,
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
    reference().plan(context, problem, workspace);
  }
  Cost cost(const Problem& problem) const override { return reference().cost(problem); }
  void forward(const Context& context, const Problem& problem, const Forward& args,
               Workspace& workspace) const override {
    reference().forward(context, problem, args, workspace);
    switch (harm_) {
      case Harm::segfault:
        std::raise(SIGSEGV);
        break;
      case Harm::abort:
        std::abort();
      case Harm::exit:
        std::_Exit(0);
      case Harm::throws:
        throw std::runtime_error("a line\nand another, with \"quotes\"");
      case Harm::no_memory:
        throw std::bad_alloc();
      case Harm::hang:
        std::signal(SIGTERM, SIG_IGN);
        for (;;) std::this_thread::sleep_for(std::chrono::seconds(1));
      case Harm::wrong:
        *args.o.row<float>(0, 0, 0) += 0.25f;
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
  static void wait_while_there(const char* gate) {
    while (gate && access(gate, F_OK) == 0) std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  static const Variant& reference() { return find_variant("reference/cpu"); }
  Harm harm_;
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
ATTN_REGISTER(std::make_unique<Faulty>("slow/cpu", Harm::slow));
ATTN_REGISTER(std::make_unique<Faulty>("prints/cpu", Harm::prints));
ATTN_REGISTER(std::make_unique<Faulty>("waits/cpu", Harm::waits));

}  // namespace
}  // namespace attn
