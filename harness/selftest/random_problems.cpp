#include "harness/selftest/random_problems.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <random>

#include "harness/run/binding.h"

namespace attn {
namespace {

/// Draws the fields of a problem. std::mt19937_64 gives the same numbers everywhere; the standard
/// distributions do not.
class Draw {
 public:
  Draw(uint64_t seed, int64_t number)
      : engine_(seed * 0x9e3779b97f4a7c15ull + static_cast<uint64_t>(number)) {}

  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool one_in(int64_t n) { return between(1, n) == 1; }
  template <class T>
  T of(std::initializer_list<T> choices) {
    return choices.begin()[between(0, static_cast<int64_t>(choices.size()) - 1)];
  }
  /// Often next to a multiple of a tile or of a vector.
  int64_t length() {
    if (one_in(3)) return between(1, 12);
    return std::max(int64_t{1}, of<int64_t>({8, 16, 32, 64, 96, 128}) + between(-1, 1));
  }
  int64_t width() {
    return one_in(2) ? between(1, 24) : of<int64_t>({8, 16, 31, 32, 33, 40, 41, 64, 65, 80});
  }

 private:
  std::mt19937_64 engine_;
};

struct Shape {
  int64_t batch, heads_kv, group, seq_q, seq_kv;
};

std::string draw_window(Draw& draw) {
  const auto side = [&] { return draw.one_in(4) ? std::string("*") : std::to_string(draw.between(0, 40)); };
  const std::string left = side();
  return fmt::format("window:{}:{}", left, side());
}

std::string draw_padding(Draw& draw, const Shape& shape) {
  std::string text = "padding:";
  const int64_t count = draw.one_in(2) ? 1 : shape.batch;
  for (int64_t b = 0; b < count; ++b) {
    if (b > 0) text += '/';
    text += draw.one_in(3) ? fmt::format("{}%", draw.between(0, 100))
                           : std::to_string(draw.between(0, shape.seq_kv));
  }
  return text;
}

std::string draw_documents(Draw& draw) {
  std::vector<int64_t> lengths;
  for (int64_t count = draw.between(1, 4); count > 0; --count) lengths.push_back(draw.between(1, 60));
  return fmt::format("document:{}", fmt::join(lengths, "/"));
}

std::string draw_mask(Draw& draw, const Shape& shape, BlockFiles& files) {
  std::vector<std::string> parts;
  if (draw.one_in(3)) parts.push_back(draw.one_in(3) ? "causal:topleft" : "causal");
  if (draw.one_in(4)) parts.push_back(draw_window(draw));
  if (draw.one_in(4)) parts.push_back(draw_padding(draw, shape));
  if (draw.one_in(5) && shape.seq_kv == shape.seq_q) parts.push_back(draw_documents(draw));
  if (draw.one_in(8) && shape.seq_kv > 0) {
    const int64_t block_q = draw.of<int64_t>({1, 8, 16, 64}), block_kv = draw.of<int64_t>({1, 8, 16, 64});
    parts.push_back("blocks:" + files.make(shape.seq_q, shape.seq_kv, block_q, block_kv));
  }
  return parts.empty() ? "none" : fmt::format("{}", fmt::join(parts, "+"));
}

std::string draw_position(Draw& draw, int64_t head_dim) {
  const int64_t buckets = 2 * draw.between(2, 16);
  switch (draw.between(0, 13)) {
    case 0:
      return fmt::format("shaw:{}", draw.of<int64_t>({0, 1, 4, 30, 200}));
    case 1:
      return fmt::format("shaw-keys:{}", draw.of<int64_t>({0, 1, 4, 30, 200}));
    case 2:
      return "alibi";
    case 3:
      return fmt::format("t5:{}:{}", buckets, buckets + draw.between(0, 100));
    case 4:
      return fmt::format("t5-causal:{}:{}", buckets, buckets + draw.between(0, 100));
    case 5:
      return head_dim < 2 ? "none" : fmt::format("rope:{}", draw.of<int64_t>({2, 100, 10000}));
    case 6:
      return head_dim < 2 ? "none" : fmt::format("rope-interleaved:{}", draw.of<int64_t>({2, 100, 10000}));
    default:
      return "none";
  }
}

std::string draw_problem(Draw& draw, BlockFiles& files) {
  const bool block = draw.one_in(12);
  Shape shape{draw.between(1, 3), draw.between(1, 3), draw.of<int64_t>({1, 1, 2, 3}), draw.length(), 0};
  shape.seq_kv = block || draw.one_in(2) ? shape.seq_q : draw.one_in(30) ? 0 : draw.length();
  if (!block && draw.one_in(10)) shape.seq_q = draw.between(1, 4), shape.seq_kv = draw.between(500, 700);
  const int64_t head_dim = draw.width(), value_dim = draw.one_in(2) ? head_dim : draw.width();
  std::string text =
      fmt::format("b={},hq={},hk={},nq={},nk={},d={},dv={}", shape.batch, shape.heads_kv * shape.group,
                  shape.heads_kv, shape.seq_q, shape.seq_kv, head_dim, value_dim);
  text += fmt::format(",mask={},pos={}", draw_mask(draw, shape, files), draw_position(draw, head_dim));
  text += fmt::format(",dtype={}", draw.of<const char*>({"f32", "f32", "f32", "bf16", "f16"}));
  if (block) text += ",scope=block";
  if (!block && draw.one_in(3)) text += ",pass=bwd";
  if (draw.one_in(6)) text += fmt::format(",scale={}", draw.of<const char*>({"1", "-0.125", "0.01", "0.7"}));
  if (draw.one_in(6)) text += fmt::format(",softcap={}", draw.of<const char*>({"0.5", "5", "30"}));
  return text;
}

struct SolvedProblem {
  RandomProblem drawn;
  Inputs<float> inputs;
  Truth truth;
};

std::vector<SolvedProblem> solve(int64_t first, int64_t end, uint64_t seed, int threads, BlockFiles& files) {
  std::vector<SolvedProblem> solved(static_cast<size_t>(end - first));
  for (int64_t n = first; n < end; ++n)
    solved[static_cast<size_t>(n - first)].drawn = random_problem(seed, n, files);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
  for (size_t n = 0; n < solved.size(); ++n) {
    SolvedProblem& s = solved[n];
    s.inputs = make_checked_inputs(s.drawn.problem, s.drawn.fill, seed);
    s.truth = make_truth(s.drawn.problem, s.inputs, {.threads = 1});
  }
  return solved;
}

void check_one(const Variant& variant, const SolvedProblem& s, uint64_t seed, int threads, RandomRun& run) {
  const auto& [problem, fill, layout] = s.drawn;
  if (!support_of(variant, problem)) return;
  const CaseOutcome outcome = check_case(variant, {problem, layout}, s.inputs, s.truth, threads);
  const std::string where = fmt::format("{}: {} fill={}", variant.info().name, problem.text(), to_text(fill));
  ++run.runs;
  if (outcome.worst > run.worst) {
    run.worst = outcome.worst;
    run.worst_at = where;
  }
  if (outcome.ok) return;
  run.failures.push_back({fmt::format("{}: {}", where, outcome.reason),
                          rerun_command(variant.info().name, problem, fill, seed)});
}

}  // namespace

RandomProblem random_problem(uint64_t seed, int64_t number, BlockFiles& files) {
  Draw draw(seed, number);
  RandomProblem drawn{.problem = Problem::parse(draw_problem(draw, files))};
  drawn.fill =
      all_fills()[static_cast<size_t>(draw.between(0, static_cast<int64_t>(all_fills().size()) - 1))];
  if (drawn.problem.scope == Scope::core && draw.one_in(4)) drawn.layout = Layout::head_major;
  return drawn;
}

RandomRun check_random_problems(const std::vector<const Variant*>& variants, int64_t count, uint64_t seed,
                                int threads) {
  constexpr int64_t kSolvedAtOnce = 64, kSeveralThreadsEvery = 4;
  BlockFiles files;
  RandomRun run;
  for (int64_t first = 0; first < count; first += kSolvedAtOnce) {
    for (const SolvedProblem& s :
         solve(first, std::min(first + kSolvedAtOnce, count), seed, threads, files)) {
      const int used = run.problems++ % kSeveralThreadsEvery == 0 ? threads : 1;
      for (const Variant* variant : variants) check_one(*variant, s, seed, used, run);
    }
  }
  if (!run.failures.empty()) files.keep();
  return run;
}

}  // namespace attn
