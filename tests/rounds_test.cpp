// Rounds: interleaving, pairing, and what ends the sampling.

#include "harness/measure/rounds.h"

#include <algorithm>
#include <set>
#include <stdexcept>

#include "harness/measure/clock.h"
#include "tests/catch.h"

using namespace attn;

namespace {

/// A case that takes the given times, one per call, the last for ever; it counts its calls.
struct Scripted {
  std::vector<double> times;
  int64_t calls = 0;
  TimedCase timed(const std::string& name) {
    return {name, [this](int64_t count) {
              double total = 0;
              for (int64_t k = 0; k < count; ++k) {
                total += times[static_cast<size_t>(
                    std::min<int64_t>(calls++, static_cast<int64_t>(times.size()) - 1))];
              }
              return total;
            }};
  }
};

/// Alternates between two times, so that the interval never becomes narrow.
struct Alternating {
  int64_t samples = 0;
  TimedCase timed(const std::string& name, double low, double high) {
    return {name, [this, low, high](int64_t count) {
              return static_cast<double>(count) * (samples++ % 2 ? low : high);
            }};
  }
};

}  // namespace

TEST_CASE("a steady case stops at six samples, the fewest with an interval") {
  Scripted steady{{0.01}};
  const auto series = time_rounds({steady.timed("steady")}, {.budget_s = 100});
  REQUIRE(series.size() == 1);
  CHECK(series[0].samples.size() == 6);
  CHECK(series[0].stop == Stop::median);
  CHECK(series[0].calls_per_sample == 1);
}

TEST_CASE("untimed calls before a sample are no samples, but count as spent") {
  Scripted warmed{{0.01}}, spent{{0.01}}, lengthy{{0.2}};
  auto series = time_rounds({warmed.timed("warmed")}, {.budget_s = 100, .warm_up_s = 0.025});
  CHECK(series[0].samples.size() == 6);
  CHECK(warmed.calls == 1 + 3 + 2 + 6 * (3 + 1));  // cold, warm-up, calibration, samples
  series = time_rounds({spent.timed("spent")}, {.budget_s = 0.12, .warm_up_s = 0.025});
  CHECK(series[0].samples.size() == 2);
  series = time_rounds({lengthy.timed("lengthy")}, {.budget_s = 100, .warm_up_s = 0.025});
  CHECK(lengthy.calls == 1 + 6);
}

TEST_CASE("a noisy case ends with its budget") {
  Alternating noisy;
  const auto series = time_rounds({noisy.timed("noisy", 0.01, 0.02)}, {.budget_s = 1});
  CHECK(series[0].stop == Stop::budget);
  double total = 0;
  for (double time : series[0].times_s()) total += time;
  CHECK(total <= 1.0);
  CHECK(total > 0.8);
}

TEST_CASE("a budget shorter than six samples ends with fewer, never with none") {
  Scripted slow{{1.0}};
  const auto series = time_rounds({slow.timed("slow")}, {.budget_s = 3});
  CHECK(!series[0].samples.empty());
  CHECK(series[0].samples.size() < 6);
  CHECK(series[0].stop == Stop::budget);
}

TEST_CASE("short calls are batched to the clock") {
  Scripted quick{{1e-7}};
  const auto series = time_rounds({quick.timed("quick")}, {.budget_s = 10});
  CHECK(static_cast<double>(series[0].calls_per_sample) * 1e-7 >= 0.99 * shortest_sample_s());
  CHECK(series[0].samples[0].time_s == Approx(1e-7));
  CHECK(shortest_sample_s() >= 1000 * clock_resolution_s());
}

TEST_CASE("cases are interleaved: each runs once a round, and the baseline stays for the others") {
  Scripted steady{{0.01}};
  Alternating noisy;
  std::vector<size_t> order;
  RoundOptions options{.budget_s = 0.5, .baseline = 0};
  options.announce = [&](size_t which) { order.push_back(which); };
  const auto series = time_rounds({steady.timed("baseline"), noisy.timed("noisy", 0.01, 0.02)}, options);
  CHECK(series[0].samples.size() >= series[1].samples.size());
  for (size_t k = 0; k < series[1].samples.size(); ++k) {
    CHECK(series[0].samples[k].round == static_cast<int64_t>(k));
    CHECK(series[1].samples[k].round == static_cast<int64_t>(k));
  }
  std::set<size_t> first_of_round;
  for (size_t k = 2; k + 1 < order.size() && k < 40; k += 2) first_of_round.insert(order[k]);
  CHECK(first_of_round.size() == 2);  // the order within a round varies
}

TEST_CASE("ratios are paired by round") {
  std::vector<TimedSample> base, other;
  for (int round = 0; round < 8; ++round) {
    const double drift = 1 + round;  // both slow down together: the ratio does not see it
    base.push_back({round, 0.1 * drift, {}});
    other.push_back({round, 0.3 * drift, {}});
  }
  const auto ratios = ratios_by_round(other, base);
  REQUIRE(ratios.size() == 8);
  for (double ratio : ratios) CHECK(ratio == Approx(3));
  for (TimedSample& sample : other) sample.round += 100;
  CHECK(ratios_by_round(other, base).empty());
}

TEST_CASE("the ratio ends the sampling where what disturbs a round disturbs both") {
  // Times of a round from 1 to 2, common to both cases: the medians are not known, the ratio is.
  int64_t base_calls = 0, other_calls = 0;
  const auto drift = [](int64_t call) { return 1 + static_cast<double>(call * 7919 % 97) / 97; };
  const TimedCase base{"base", [&](int64_t) { return 0.01 * drift(base_calls++); }};
  const TimedCase other{"other", [&](int64_t) { return 0.03 * drift(other_calls++); }};
  const auto paired = time_rounds({base, other}, {.budget_s = 3, .baseline = 0});
  CHECK(paired[1].stop == Stop::ratio);
  CHECK(paired[1].samples.size() == 6);
  CHECK(paired[0].stop == Stop::budget);  // its own median is not known
  base_calls = other_calls = 0;
  const auto alone = time_rounds({base, other}, {.budget_s = 3});
  CHECK(alone[1].stop == Stop::budget);
  CHECK(alone[1].samples.size() > 50);
}

TEST_CASE("once the baseline's budget is spent, a case ends by its own median") {
  Scripted slow{{1.0}}, quick{{0.01}};
  const auto series = time_rounds({slow.timed("slow"), quick.timed("quick")}, {.budget_s = 3, .baseline = 0});
  CHECK(series[0].stop == Stop::budget);
  CHECK(series[0].samples.size() < 6);
  CHECK(series[1].stop == Stop::median);
}

TEST_CASE("the target decides how long a noisy case runs") {
  const auto samples_for = [](double target) {
    int64_t calls = 0;
    const TimedCase noisy{"noisy", [&](int64_t) {
                            return 0.01 * (1 + 0.1 * (static_cast<double>(calls++ * 7919 % 97) / 97 - 0.5));
                          }};
    return time_rounds({noisy}, {.target = target, .budget_s = 100})[0].samples.size();
  };
  CHECK(samples_for(0.1) == 6);
  CHECK(samples_for(0.01) > 2 * samples_for(0.03));
}

TEST_CASE("an exception of a case comes out of the rounds, and the next rounds still work") {
  int calls = 0;
  const TimedCase failing{"failing", [&](int64_t) -> double {
                            if (++calls > 4) throw std::runtime_error("broken");
                            return 0.01;
                          }};
  CHECK_THROWS_WITH(time_rounds({failing}, {.budget_s = 1}), "broken");
  Scripted steady{{0.01}};
  CHECK(time_rounds({steady.timed("steady")}, {.budget_s = 1})[0].stop == Stop::median);
}

TEST_CASE("a clock that goes back ends the case, not with a negative time") {
  Scripted backward{{0.01, 0.01, 0.01, -5, 0.01}};
  CHECK_THROWS_WITH(time_rounds({backward.timed("backward")}, {.budget_s = 1}),
                    Catch::Contains("clock went back by 5 s"));
}

TEST_CASE("names that look like regular expressions are taken as they are") {
  Scripted a{{0.01}}, b{{0.02}};
  const auto series = time_rounds({a.timed("case1:.*"), b.timed("x/(+[")}, {.budget_s = 1});
  CHECK(series[0].samples.size() == 6);
  CHECK(series[1].samples.size() == 6);
  CHECK(series[1].samples[0].time_s == Approx(0.02));
}
