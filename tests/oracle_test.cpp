// The truth itself: closed forms (golden cases G01 to G49 of the variants catalogue), finite differences, and
// a second oracle in long double with compensated sums. Then the comparison: what it must never accept.

#include "harness/oracle/oracle.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numbers>

#include "tests/catch.h"
#include "tests/second_oracle.h"

using namespace attn;

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
const double kLn2 = std::numbers::ln2;

Outputs<double> solved(const std::string& problem, const Inputs<double>& inputs) {
  return solve(Problem::parse(problem), inputs, 2);
}

void check_near(const std::vector<double>& found, const std::vector<double>& expected,
                double tolerance = 1e-13) {
  REQUIRE(found.size() == expected.size());
  for (size_t e = 0; e < found.size(); ++e) {
    INFO("element " << e);
    if (std::isinf(expected[e])) {
      CHECK(found[e] == expected[e]);
    } else {
      CHECK(std::abs(found[e] - expected[e]) <= tolerance * std::max(1.0, std::abs(expected[e])));
    }
  }
}

Inputs<double> random_inputs(const Problem& p, Fill fill = Fill::normal) {
  return to_double(make_inputs(p, fill, 3));
}

}  // namespace

TEST_CASE("G01 one key gives its value") {
  Inputs<double> in{.q = {2, 1}, .k = {3, -1}, .v = {0.3, 7}, .d_o = {5, -2}};
  const auto out = solved("hq=1,nq=1,d=2,scale=0.5,pass=bwd", in);
  CHECK(out.o == in.v);
  check_near(out.lse, {2.5});
  CHECK(out.d_q == std::vector<double>{0, 0});
  CHECK(out.d_k == std::vector<double>{0, 0});
  CHECK(out.d_v == in.d_o);
}

TEST_CASE("G02 zero queries give the mean of the visible values") {
  Inputs<double> in{.q = {0, 0, 0}, .k = {1, 2, 3}, .v = {3, 6, 12}};
  auto out = solved("hq=1,nq=3,d=1", in);
  check_near(out.o, {7, 7, 7});
  check_near(out.lse, {std::log(3), std::log(3), std::log(3)});
  out = solved("hq=1,nq=3,d=1,mask=causal", in);
  check_near(out.o, {3, 4.5, 7});
  check_near(out.lse, {0, kLn2, std::log(3)});
}

TEST_CASE("G03 two keys by hand, with gradients") {
  Inputs<double> in{.q = {1}, .k = {0, std::log(3)}, .v = {0, 4}, .d_o = {1}};
  const auto out = solved("hq=1,nq=1,nk=2,d=1,scale=1,pass=bwd", in);
  check_near(out.o, {3});
  check_near(out.lse, {std::log(4)});
  check_near(out.d_q, {0.8239592165010823});
  check_near(out.d_k, {-0.75, 0.75});
  check_near(out.d_v, {0.25, 0.75});
}

TEST_CASE("G04 weights 1, 2, 4 of 7") {
  Inputs<double> in{.q = {1}, .k = {0, kLn2, 2 * kLn2}, .v = {7, 14, 28}};
  const auto out = solved("hq=1,nq=1,nk=3,d=1,scale=1", in);
  check_near(out.o, {21});
  check_near(out.lse, {1.9459101490553132});
}

TEST_CASE("G06 softcap saturates") {
  Inputs<double> in{.q = {1e9}, .k = {1, -1}, .v = {1, 0}, .d_o = {1}};
  const auto out = solved("hq=1,nq=1,nk=2,d=1,scale=1,softcap=2,pass=bwd", in);
  check_near(out.o, {1 / (1 + std::exp(-4))});
  CHECK(out.d_q == std::vector<double>{0});
  CHECK(out.d_k == std::vector<double>{0, 0});
}

TEST_CASE("G07 empty rows and hidden NaN") {
  Inputs<double> in{.q = {1, 1, 1, 1, 1}, .k = {2, 3}, .v = {4, 6}, .d_o = {kNan, kNan, kNan, 1, 1}};
  const auto out = solved("hq=1,nq=5,nk=2,d=1,mask=causal,pass=bwd", in);
  CHECK(out.o[0] == 0);
  CHECK(out.o[2] == 0);
  CHECK(out.lse[2] == -kInfinity);
  CHECK(out.o[3] == 4);
  CHECK(out.d_q[1] == 0);
  for (double gradient : {out.d_k[0], out.d_k[1], out.d_v[0], out.d_v[1]}) CHECK(std::isfinite(gradient));
  Inputs<double> hidden{.q = {1}, .k = {1, 2, kNan}, .v = {3, 5, kInfinity}, .d_o = {1}};
  const auto padded = solved("hq=1,nq=1,nk=3,d=1,mask=padding:2,pass=bwd", hidden);
  CHECK(std::isfinite(padded.o[0]));
  CHECK(padded.d_k[2] == 0);
  CHECK(padded.d_v[2] == 0);
  const auto none = solved("hq=1,nq=2,nk=0,d=1", {.q = {1, 1}});
  CHECK(none.o == std::vector<double>{0, 0});
  CHECK(none.lse == std::vector<double>{-kInfinity, -kInfinity});
}

TEST_CASE("G08 one-hot scores give half of the own value") {
  constexpr int64_t n = 5;
  const double c = std::sqrt(std::log(n - 1));
  Inputs<double> in;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < n; ++j) in.q.push_back(i == j ? c : 0);
    in.v.push_back(static_cast<double>(i * i));
  }
  in.k = in.q;
  const auto out = solved("hq=1,nq=5,d=5,dv=1,scale=1", in);
  for (size_t i = 0; i < n; ++i) CHECK(out.o[i] == Approx(in.v[i] / 2 + (30 - in.v[i]) / 8).epsilon(1e-13));
}

TEST_CASE("G09 grouped heads read the keys of their group") {
  const Problem p = Problem::parse("b=2,hq=4,hk=2,nq=3,nk=5,d=2");
  const Inputs<double> in = random_inputs(p);
  Inputs<double> repeated = in;
  const auto repeat = [&](const std::vector<double>& from) {
    std::vector<double> to;
    for (size_t row = 0; row < 2 * 5; ++row) {
      for (size_t h = 0; h < 4; ++h) {
        for (size_t c = 0; c < 2; ++c) to.push_back(from[(row * 2 + h / 2) * 2 + c]);
      }
    }
    return to;
  };
  repeated.k = repeat(in.k);
  repeated.v = repeat(in.v);
  CHECK(solve(p, in, 1).o == solved("b=2,hq=4,hk=4,nq=3,nk=5,d=2", repeated).o);
}

TEST_CASE("G10 block-diagonal weights are separate heads") {
  const Problem block = Problem::parse("hq=2,nq=4,d=2,scope=block");
  Inputs<double> in = random_inputs(block);
  std::vector<double> identity(16, 0.0);
  for (size_t c = 0; c < 4; ++c) identity[c * 5] = 1;
  in.wq = in.wk = in.wv = in.wo = identity;
  const Outputs<double> out = solve(block, in, 2);
  Inputs<double> core{.q = in.x, .k = in.x, .v = in.x};
  const Outputs<double> heads = solve(block.with(Scope::core), core, 1);
  check_near(out.o, heads.o);
  check_near(out.lse, heads.lse);
}

TEST_CASE("G20, G21 windows") {
  const Problem p = Problem::parse("hq=1,nq=6,d=3");
  const Inputs<double> in = random_inputs(p);
  CHECK(solve(p, in, 1).o == solved("hq=1,nq=6,d=3,mask=window:6:6", in).o);
  CHECK(solve(p, in, 1).o == solved("hq=1,nq=6,d=3,mask=padding:100%", in).o);
  Inputs<double> means{.q = {0, 0, 0, 0}, .k = {1, 2, 3, 4}, .v = {2, 4, 9, 11}};
  check_near(solved("hq=1,nq=4,d=1,mask=window:1:1", means).o, {3, 5, 8, 10});
}

TEST_CASE("G23 a block mask from a file, empty rows included") {
  const auto path = std::filesystem::temp_directory_path() / "attnbench-oracle-g23.txt";
  std::ofstream(path) << "1 1 4 3\n2\n0 2\n1 2\n\n";
  Inputs<double> in{.q = {0, 0, 0, 0}, .k = {1, 1, 1}, .v = {3, 5, 9}};
  const auto out = solved("hq=1,nq=4,nk=3,d=1,mask=blocks:" + path.string(), in);
  std::filesystem::remove(path);
  check_near(out.o, {9, 6, 7, 0});
  check_near(out.lse, {0, kLn2, kLn2, -kInfinity});
}

TEST_CASE("G40 zero tables change nothing") {
  const Problem p = Problem::parse("hq=2,nq=6,d=3,pos=shaw:2");
  Inputs<double> in = random_inputs(p);
  in.shaw_key.assign(in.shaw_key.size(), 0);
  in.shaw_value.assign(in.shaw_value.size(), 0);
  CHECK(solve(p, in, 1).o == solved("hq=2,nq=6,d=3", in).o);
}

TEST_CASE("G41 Shaw keys and values, with the right sign") {
  Inputs<double> in{.q = {1, 1, 1}, .k = {0, 0, 0}, .v = {0, 0, 24}};
  in.shaw_key = {0, kLn2, std::log(3)};
  in.shaw_value = {0, 0, 0};
  auto out = solved("hq=1,nq=3,d=1,scale=1,pos=shaw:1", in);
  check_near(out.lse, {std::log(8), std::log(6), std::log(4)});
  check_near(out.o, {9, 12, 12});
  check_near(solved("hq=1,nq=3,d=1,scale=1,pos=shaw-keys:1", in).o, {9, 12, 12});
  in.v = {0, 0, 0};
  in.shaw_value = {0, 10, 20};
  check_near(solved("hq=1,nq=3,d=1,scale=1,pos=shaw:1", in).o, {17.5, 40.0 / 3, 5});
}

TEST_CASE("G42 ALiBi weights halve with the distance") {
  // 8 heads: slope 2^-(a+1); the keys carry the factor that makes head 0's slope ln 2, all others are
  // ignored.
  Inputs<double> in{.q = {0, 0, 0}, .k = {0, 0, 0}, .v = {7, 14, 28}};
  const double slope = alibi_slope(1, 0);
  const auto out = solved("hq=1,nq=3,d=1,pos=alibi,mask=causal", in);
  const double w = std::exp(-slope);
  check_near(out.o, {7, (7 * w + 14) / (1 + w), (7 * w * w + 14 * w + 28) / (1 + w + w * w)});
  const auto both = solved("hq=1,nq=3,d=1,pos=alibi", in);
  check_near(both.o, {(7 + 14 * w + 28 * w * w) / (1 + w + w * w), (7 * w + 14 + 28 * w) / (1 + 2 * w),
                      (7 * w * w + 14 * w + 28) / (1 + w + w * w)});
}

TEST_CASE("G43 T5 reads the bucket of the distance") {
  const Problem p = Problem::parse("hq=1,nq=1,nk=130,d=1,dv=1,pos=t5-causal:32:128");
  Inputs<double> in{.q = {0}, .k = std::vector<double>(130, 0), .v = std::vector<double>(130, 0)};
  in.t5_bias.assign(32, -kInfinity);
  in.t5_bias[17] = 0;  // distances 19 and 20: the thresholds are 19 and 21
  for (size_t j = 0; j < 130; ++j) in.v[j] = static_cast<double>(129 - j);
  check_near(solve(p, in, 1).o, {19.5});
}

TEST_CASE("G44 RoPE scores depend on the difference of positions") {
  // One query at position n - 1 against keys 0 .. n - 1, all (1, 0): score cos(n - 1 - j).
  Inputs<double> in{.q = {1, 0}, .k = {1, 0, 1, 0, 1, 0}, .v = {0, 0, 0, 0, 0, 0}};
  const double expected = std::log(std::exp(-0.4161468365471424) + std::exp(std::cos(1)) + std::exp(1));
  check_near(solved("hq=1,nq=1,nk=3,d=2,scale=1,pos=rope:10000", in).lse, {expected});
  check_near(solved("hq=1,nq=1,nk=3,d=2,scale=1,pos=rope-interleaved:10000", in).lse, {expected});
}

TEST_CASE("G49 the literal reading of Q r^T is another function") {
  const Problem p = Problem::parse("hq=1,nq=4,d=2,pos=shaw-keys:3");
  const Inputs<double> in = random_inputs(p);
  Inputs<double> literal = in;  // K + r, r indexed by the key alone
  for (size_t e = 0; e < literal.k.size(); ++e) literal.k[e] += in.shaw_key[e];
  const auto relative = solve(p, in, 1), absolute = solved("hq=1,nq=4,d=2", literal);
  double difference = 0;
  for (size_t e = 0; e < relative.o.size(); ++e) difference += std::abs(relative.o[e] - absolute.o[e]);
  CHECK(difference > 1e-3);
}

TEST_CASE("M16 gradients agree with finite differences") {
  for (const char* text :
       {"hq=2,nq=4,nk=5,d=3,dv=2,pass=bwd", "b=2,hq=4,hk=2,nq=4,nk=6,d=4,mask=causal,softcap=1.5,pass=bwd",
        "hq=2,nq=5,d=3,pos=shaw:2,softcap=3,pass=bwd",
        "hq=2,nq=4,nk=6,d=3,pos=shaw-keys:1,mask=window:2:1,pass=bwd",
        "hq=3,nq=5,nk=4,d=2,pos=t5:8:20,softcap=2,pass=bwd", "hq=2,nq=4,d=5,pos=rope:100,softcap=2,pass=bwd",
        "hq=2,nq=4,nk=6,d=4,pos=rope-interleaved:50,mask=causal,pass=bwd",
        "hq=2,nq=4,d=2,pos=alibi,scale=-0.7,pass=bwd"}) {
    INFO(text);
    CHECK(largest_finite_difference_error(Problem::parse(text)) < 1e-8);
  }
}

TEST_CASE("a second oracle in long double agrees to 1e-12") {
  for (const char* text :
       {"hq=1,nq=1,d=1", "b=2,hq=4,hk=2,nq=7,nk=9,d=5,dv=3,mask=causal",
        "hq=2,nq=9,nk=7,d=4,mask=causal:topleft", "hq=2,nq=9,d=4,mask=window:2:1+padding:7",
        "hq=3,nq=8,d=4,pos=alibi,softcap=4", "hq=2,nq=9,d=6,pos=shaw:2", "hq=2,nq=9,nk=12,d=7,pos=rope:10000",
        "hq=2,nq=9,d=6,pos=rope-interleaved:10000", "hq=2,nq=12,d=4,pos=t5:8:20",
        "hq=2,nq=9,d=4,pos=shaw-keys:20,scale=-1"}) {
    for (Fill fill : all_fills()) {
      for (const char* pass : {",pass=fwd", ",pass=bwd"}) {
        INFO(text << pass << " " << to_text(fill));
        CHECK(second_oracle_distance(Problem::parse(std::string(text) + pass), fill) < 1e-12);
      }
    }
  }
}

TEST_CASE("a sampled truth agrees with the complete one and says what it knows") {
  for (const char* text :
       {"b=2,hq=4,hk=2,nq=150,nk=170,d=8,mask=causal,pass=bwd", "hq=2,nq=200,d=8,pos=shaw:5,pass=bwd",
        "hq=2,nq=200,d=8,pos=rope:10000,softcap=5,pass=bwd", "hq=3,nq=140,d=8,scope=block,dm=12"}) {
    INFO(text);
    const Problem p = Problem::parse(text);
    const Inputs<float> in = make_inputs(p, Fill::normal, 1);
    const Truth complete = make_truth(p, in, {}),
                sampled = make_truth(p, in, {.max_pairs = 30000, .seed = 5});
    CHECK(complete.complete());
    CHECK_FALSE(sampled.complete());
    for (const KnownTensor& tensor : sampled.tensors) {
      const KnownTensor& whole = *complete.tensor(tensor.name);
      INFO(tensor.name);
      if (tensor.name.find("shaw") == std::string::npos) CHECK(tensor.rows.size() >= 4);
      for (size_t n = 0; n < tensor.rows.size(); ++n) {
        const int64_t place = whole.find(tensor.rows[n]);
        for (int64_t c = 0; c < tensor.width; ++c) {
          const auto here = n * static_cast<size_t>(tensor.width) + static_cast<size_t>(c);
          const auto there = static_cast<size_t>(place * tensor.width + c);
          if (std::isinf(whole.value[there])) continue;
          CHECK(std::abs(tensor.value[here] - whole.value[there]) <= 1e-12);
          CHECK(tensor.bound[here] >= 0.999 * whole.bound[there]);
          CHECK(tensor.bound[here] <= 4 * whole.bound[there]);
        }
      }
    }
  }
}

namespace {

Outputs<float> rounded(const Outputs<double>& out) {
  Outputs<float> result;
  result.o.assign(out.o.begin(), out.o.end());
  result.lse.assign(out.lse.begin(), out.lse.end());
  for (auto [to, from] :
       {std::pair{&result.d_q, &out.d_q}, {&result.d_k, &out.d_k}, {&result.d_v, &out.d_v}}) {
    to->assign(from->begin(), from->end());
  }
  return result;
}

}  // namespace

TEST_CASE("the comparison accepts rounding and nothing else") {
  const Problem p = Problem::parse("hq=2,nq=5,nk=3,d=4,mask=causal,pass=bwd");
  const Inputs<float> in = make_inputs(p, Fill::normal, 1);
  const Truth truth = make_truth(p, in, {});
  const Outputs<float> right = rounded(solve(p, to_double(in), 1));
  CHECK(compare(p, truth, right).ok);
  CHECK(compare(p, truth, right).worst < 0.2);
  const auto spoiled = [&](auto change) {
    Outputs<float> wrong = right;
    change(wrong);
    const Verdict verdict = compare(p, truth, wrong);
    CHECK(verdict.worst > 1);
    CHECK_FALSE(verdict.reason.empty());
    return verdict.ok;
  };
  const float nan = std::numeric_limits<float>::quiet_NaN(),
              infinity = std::numeric_limits<float>::infinity();
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.o[17] = nan; }));
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.d_k[3] = infinity; }));
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.lse[0] = 0; }));          // an empty row
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.lse[0] = infinity; }));   // an empty row
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.lse[4] = -infinity; }));  // no empty row
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.o[0] = 1e-30f; }));       // an empty row
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.d_q[0] = 1e-30f; }));     // an empty row
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.o[20] += 1e-5f; }));
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.o.pop_back(); }));
  CHECK_FALSE(spoiled([&](Outputs<float>& o) { o.o.assign(o.o.size(), 0); }));
  Outputs<float> zeros = right;
  zeros.o.assign(zeros.o.size(), 0);
  CHECK(compare(p, truth, zeros).reason == "mistrusted: o is zero everywhere");
}

TEST_CASE("a NaN outside the sample is found") {
  const Problem p = Problem::parse("hq=1,nq=300,d=4");
  const Inputs<float> in = make_inputs(p, Fill::normal, 1);
  const Truth truth = make_truth(p, in, {.max_pairs = 3000});
  Outputs<float> out = rounded(solve(p, to_double(in), 1));
  CHECK(compare(p, truth, out).ok);
  REQUIRE(truth.tensor("o")->find(30) < 0);
  out.o[30 * 4] = std::numeric_limits<float>::quiet_NaN();
  CHECK_FALSE(compare(p, truth, out).ok);
}
