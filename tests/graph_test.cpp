// Calls as replays of a captured graph: what is captured when, and what the check of replays finds. The
// device is the host's memory with a stream that can be captured (tests/fake_device.h).

#include <algorithm>
#include <cmath>

#include "harness/problem/error.h"
#include "harness/run/binding.h"
#include "tests/catch.h"
#include "tests/fake_device.h"

using namespace attn;

namespace {

enum class Manner {
  good,
  waits,              ///< for the stream
  swallows,           ///< waits, and does not look whether it may
  elsewhere,          ///< all of its work
  copies_at_capture,  ///< a factor into scratch, past the stream
  copies_from_host,   ///< the same through the stream, from memory of the host
  writes_at_capture,  ///< what of the results does not depend on the operands
  reads_host,         ///< a kernel does, when the call has returned
  bakes_in,           ///< a value of an operand
  forks,              ///< and never joins
  allocates,
  throws
};

/// o is 2 times the sum of q's first row, lse 7, on a fake device.
class Doubles final : public Variant {
 public:
  Doubles(FakeDevice& device, Manner manner)
      : Variant({.name = "doubles", .device = Device::cuda}), device_(device), manner_(manner) {}
  Support supports(const Problem&) const override { return {}; }
  void plan(const Context&, const Problem&, Workspace& workspace) const override {
    workspace.take<float>("factor", 1);
  }
  Cost cost(const Problem&) const override { return {}; }
  void prepare(const Context&, const Problem&, Workspace& workspace) const override {
    float* const factor = workspace.take<float>("factor", 1);
    if (manner_ != Manner::copies_at_capture) device_.to_device(factor, &kFactor, sizeof(float));
  }
  void forward(const Context&, const Problem& p, const Forward& args, Workspace& workspace) const override {
    ++calls;
    float* const factor = workspace.take<float>("factor", 1);
    const float* const q = args.q.row<float>(0, 0, 0);
    const Problem problem = p;
    const Forward given = args;
    const auto kernel = [=] { fill(problem, given, *factor * sum_of(q, problem.head_dim)); };
    switch (manner_) {
      case Manner::good:
        break;
      case Manner::waits:
        device_.synchronize();
        break;
      case Manner::swallows:
        try {
          device_.synchronize();
        } catch (const std::runtime_error&) {
        }
        break;
      case Manner::elsewhere:
        return kernel();
      case Manner::copies_at_capture:
        *factor = kFactor;
        break;
      case Manner::writes_at_capture:
        std::fill_n(args.lse, p.seq_q, kLse);
        return device_.enqueue([=] { fill_o(problem, given, *factor * sum_of(q, problem.head_dim)); });
      case Manner::copies_from_host:
        device_.copy(factor, &kFactor, sizeof(float));
        break;
      case Manner::reads_host: {
        const SetWhileCalled set{local_};
        return device_.enqueue([=, this] { fill(problem, given, local_ * sum_of(q, problem.head_dim)); });
      }
      case Manner::bakes_in: {
        const float first = q[0];
        return device_.enqueue(
            [=] { fill(problem, given, *factor * (sum_of(q, problem.head_dim) - q[0] + first)); });
      }
      case Manner::forks:
        device_.fork();
        break;
      case Manner::allocates: {
        const DeviceBuffer taken(device_, 64);
        break;
      }
      case Manner::throws:
        throw std::runtime_error("not today");
    }
    device_.enqueue(kernel);
  }

  static float sum_of(const float* row, int64_t width) {
    float sum = 0;
    for (int64_t c = 0; c < width; ++c) sum += row[c];
    return sum;
  }
  mutable int calls = 0;
  static constexpr float kLse = 7;

 private:
  static constexpr float kFactor = 2;
  /// A local variable of the host: gone when the call is over, and here never undefined.
  struct SetWhileCalled {
    explicit SetWhileCalled(float& value) : value_(value) { value_ = kFactor; }
    ~SetWhileCalled() { value_ = 0; }
    float& value_;
  };

  static void fill_o(const Problem& p, const Forward& args, float value) {
    for (int64_t i = 0; i < p.seq_q; ++i) std::fill_n(args.o.row<float>(0, i, 0), p.value_dim, value);
  }
  static void fill(const Problem& p, const Forward& args, float value) {
    fill_o(p, args, value);
    std::fill_n(args.lse, p.seq_q, kLse);
  }

  FakeDevice& device_;
  Manner manner_;
  mutable float local_ = 0;
};

const Problem kProblem = Problem::parse("hq=1,nq=4,d=64");
constexpr size_t kSet = 4 * 1024 + 256;  // q, k, v and o of 1 KiB, the LSE padded

BindingOptions as_graph(FakeDevice& device, bool guarded = true) {
  return {.guarded = guarded, .launch = LaunchMode::graph, .api = &device};
}

/// What a replay leaves in every element of o; NaN where anything else is there, or a wrong LSE.
float replayed(Binding& binding) {
  const Outputs<float> found = binding.outputs();
  const bool alike = std::count(found.o.begin(), found.o.end(), found.o[0]) == std::ssize(found.o) &&
                     std::count(found.lse.begin(), found.lse.end(), Doubles::kLse) == std::ssize(found.lse);
  return alike ? found.o[0] : std::nanf("");
}

}  // namespace

TEST_CASE("a replay computes what the call would, and every run is one") {
  FakeDevice device(0);
  const Doubles variant(device, Manner::good);
  const Inputs<float> inputs = make_inputs(kProblem, Fill::normal, 1);
  {
    Binding binding(variant, kProblem, inputs, as_graph(device));
    CHECK(variant.calls == 2);  // a plain one, and that of the capture
    CHECK(device.captures == 1);
    CHECK(device.launches == 0);
    CHECK(std::isnan(replayed(binding)));  // nothing of either is left
    for (int run = 0; run < 3; ++run) {
      binding.poison_outputs();
      binding.run();
      CHECK(replayed(binding) == 2 * Doubles::sum_of(inputs.q.data(), 64));
    }
    CHECK(binding.overruns().empty());
    binding.time_s(5, CacheState::hot);
    CHECK(variant.calls == 2);
    CHECK(device.launches == 8);
  }
  CHECK(device.books.used == 0);
}

TEST_CASE("cold replays take the sets in turn, each with a graph of its own") {
  FakeDevice device(kSet * 5 / 2);  // five sets
  const Doubles variant(device, Manner::good);
  const Inputs<float> inputs = make_inputs(kProblem, Fill::normal, 1);
  Binding binding(variant, kProblem, inputs, as_graph(device, false));
  binding.make_rotation();
  REQUIRE(binding.operand_sets() == 5);
  CHECK(device.captures == 5);
  const int calls = variant.calls;
  binding.poison_outputs();
  binding.time_s(4, CacheState::cold);
  CHECK(std::isnan(replayed(binding)));  // sets 1 to 4
  binding.time_s(1, CacheState::cold);
  CHECK(replayed(binding) == 2 * Doubles::sum_of(inputs.q.data(), 64));
  binding.poison_outputs();
  binding.run();
  CHECK(replayed(binding) == 2 * Doubles::sum_of(inputs.q.data(), 64));
  CHECK(variant.calls == calls);
}

TEST_CASE("what a graph would not repeat is refused with its reason, and the stream goes on") {
  const auto [manner, reason] = GENERATE(
      table<Manner, const char*>({{Manner::waits, "operation not permitted when stream is capturing"},
                                  {Manner::swallows, kCapturesForbidden},
                                  {Manner::elsewhere, kCapturesNothing},
                                  {Manner::copies_from_host, kCapturesPageable},
                                  {Manner::forks, kCapturesUnjoined},
                                  {Manner::allocates, kCapturesAllocation}}));
  INFO(reason);
  FakeDevice device(0);
  const Inputs<float> inputs = make_inputs(kProblem, Fill::normal, 1);
  const Doubles bad(device, manner), good(device, Manner::good);
  Binding plain(bad, kProblem, inputs, {.api = &device});
  plain.run();  // by itself there is nothing wrong with it
  CHECK(replayed(plain) == 2 * Doubles::sum_of(inputs.q.data(), 64));
  CHECK_THROWS_WITH(Binding(bad, kProblem, inputs, as_graph(device)),
                    std::string("cannot be captured: ") + reason);
  CHECK_THROWS_AS(plain.latency_s(LaunchMode::graph), CannotCapture);
  CHECK(plain.latency_s(LaunchMode::stream) >= 0);
  Binding next(good, kProblem, inputs, as_graph(device));
  next.run();
  CHECK(replayed(next) == 2 * Doubles::sum_of(inputs.q.data(), 64));
}

TEST_CASE("a call that throws by itself is no matter of graphs") {
  FakeDevice device(0);
  const Doubles variant(device, Manner::throws);
  try {
    Binding binding(variant, kProblem, make_inputs(kProblem, Fill::normal, 1), as_graph(device));
    FAIL("accepted");
  } catch (const std::exception& error) {
    CHECK(error.what() == std::string("not today"));
  }
}

TEST_CASE("a replay has nothing of what was done, read or found out at the capture") {
  const Manner manner =
      GENERATE(Manner::copies_at_capture, Manner::writes_at_capture, Manner::reads_host, Manner::bakes_in);
  FakeDevice device(0);
  const Doubles variant(device, manner);
  const Inputs<float> inputs = make_inputs(kProblem, Fill::normal, 1);
  const float right = 2 * Doubles::sum_of(inputs.q.data(), 64);
  Binding plain(variant, kProblem, inputs, {.guarded = true, .api = &device});
  plain.run();
  CHECK(replayed(plain) == Approx(right));
  Binding binding(variant, kProblem, inputs, as_graph(device));
  binding.run();
  CHECK(!(std::abs(replayed(binding) - right) < 1e-3f));  // NaN or another number
}

TEST_CASE("a plain binding captures for its latency alone") {
  FakeDevice device(0);
  const Doubles variant(device, Manner::good);
  Binding binding(variant, kProblem, make_inputs(kProblem, Fill::normal, 1), {.api = &device});
  CHECK(device.captures == 0);
  CHECK(binding.latency_s(LaunchMode::graph) >= 0);
  CHECK(binding.latency_s(LaunchMode::graph) >= 0);
  CHECK(device.captures == 1);
  CHECK(device.launches == 2);
  binding.run();
  CHECK(device.launches == 2);
}

TEST_CASE("a CPU has no graphs, and says so") {
  CHECK_THROWS_WITH(device_api(Device::cpu).capture([] {}), "cannot be captured: a CPU has no graphs");
  CHECK(to_text(LaunchMode::graph) == "graph");
  CHECK(parse_launch("stream") == LaunchMode::stream);
  CHECK_THROWS_WITH(parse_launch("Graph"), "--launch 'Graph' is unknown: use stream or graph");
  CHECK_THROWS_AS(parse_launch(""), UsageError);
}
