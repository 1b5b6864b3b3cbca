// Parts of a campaign: axes, plan, presets, and what supervisor and worker exchange.

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <set>
#include <thread>

#include "harness/campaign/axes.h"
#include "harness/campaign/plan.h"
#include "harness/campaign/preset.h"
#include "harness/campaign/protocol.h"
#include "harness/campaign/share.h"
#include "harness/problem/error.h"
#include "tests/catch.h"
#include "tests/scratch_folder.h"

using namespace attn;

TEST_CASE("axes: numbers and ranges") {
  using List = std::vector<int64_t>;
  CHECK(parse_axis("n", {"64"}) == List{64});
  CHECK(parse_axis("n", {"128:1024:x2"}) == List{128, 256, 512, 1024});
  CHECK(parse_axis("n", {"64:256:+64"}) == List{64, 128, 192, 256});
  CHECK(parse_axis("n", {"100:1000:x3"}) == List{100, 300, 900});
  CHECK(parse_axis("n", {"512", "64", "512"}) == List{64, 512});
  CHECK(parse_axis("n", {"7:7:+1"}) == List{7});
}

TEST_CASE("axes: hostile input is one clear line") {
  for (const char* text : {"",
                           "0",
                           "-1",
                           "1.5",
                           "1e3",
                           " 1",
                           "1 ",
                           "x",
                           "1:2",
                           "1:2:3",
                           "1:2:x1",
                           "1:2:x0",
                           "1:2:+0",
                           "1:1e18:1",
                           "1:99999999999999999999:x2",
                           "1:4294967296:+1",
                           "1:2147483648:+1",
                           "8:4:x2",
                           "1:2:x",
                           "1:2:-1",
                           ":::",
                           "1:2:x2:3",
                           "9223372036854775807",
                           "1,2",
                           "0x10"}) {
    INFO("'" << text << "'");
    try {
      parse_axis("n", {text});
      FAIL("accepted");
    } catch (const UsageError& error) {
      CHECK(std::string(error.what()).find("--n") == 0);
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
}

namespace {

Plan plan_of(Settings sweep) {
  sweep.emplace("variants", std::vector<std::string>{"^reference/cpu$"});
  CampaignOptions options;
  return make_plan({sweep}, options);
}

}  // namespace

TEST_CASE("plan: d is the model width unless d-head is given") {
  const Plan width = plan_of({{"d", {"64"}}, {"h", {"2", "4"}}});
  REQUIRE(width.points.size() == 2);
  CHECK(width.points[0].problem.head_dim == 32);
  CHECK(width.points[1].problem.head_dim == 16);
  const Plan head = plan_of({{"d-head", {"64"}}, {"h", {"2", "4"}}});
  CHECK(head.points[1].problem.head_dim == 64);
  CHECK(head.points[1].d_model == 256);
  CHECK_THROWS_AS(plan_of({{"d", {"64"}}, {"d-head", {"8"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"hk", {"2"}}, {"group", {"2"}}}), UsageError);
}

TEST_CASE("plan: values are as wide as keys unless d-value is given") {
  const Plan plan = plan_of({{"d-head", {"192"}}, {"d-value", {"64:128:x2"}}, {"h", {"2"}}, {"n", {"8"}}});
  REQUIRE(plan.points.size() == 2);
  CHECK(plan.points[0].text.find("d=192,dv=64,") != std::string::npos);
  CHECK(plan.points[1].problem.value_dim == 128);
  CHECK(plan.points[1].d_model == 384);
  CHECK(plan_of({{"d-head", {"192"}}}).points[0].problem.value_dim == 192);
  CHECK_THROWS_AS(plan_of({{"d-value", {"0"}}}), UsageError);
}

TEST_CASE("plan: what does not divide is a skipped point with a reason") {
  const Plan plan = plan_of({{"d", {"64"}}, {"h", {"3", "4"}}});
  REQUIRE(plan.points.size() == 2);
  CHECK(plan.points[0].skipped == "d=64 is not a multiple of h=3");
  CHECK(plan.points[1].skipped.empty());
  CHECK(!plan_of({{"h", {"4"}}, {"hk", {"3"}}}).points[0].skipped.empty());
  CHECK(!plan_of({{"h", {"4"}}, {"group", {"3"}}}).points[0].skipped.empty());
  CHECK(plan_of({{"h", {"4"}}, {"group", {"2"}}}).points[0].problem.heads_kv == 2);
}

TEST_CASE("plan: cross product, no point twice, stable ids") {
  const Plan plan =
      plan_of({{"n", {"64:256:x2"}}, {"mask", {"none causal", "window:3:0"}}, {"pass", {"fwd", "bwd"}}});
  CHECK(plan.points.size() == 3 * 3 * 2);
  std::set<std::string> ids;
  for (const PlanPoint& point : plan.points) {
    ids.insert(point.id);
    CHECK(Problem::parse(point.text).text() == point.text);
  }
  CHECK(ids.size() == plan.points.size());
  CHECK(plan_of({{"n", {"64,128 256"}}}).points.size() == 3);
  const Plan twice = make_plan({{{"n", {"64"}}}, {{"n", {"64", "128"}}}}, {});
  CHECK(twice.points.size() == 2);
  const Plan alone = plan_of({{"n", {"128"}}});
  const Plan among = plan_of({{"n", {"64", "128"}}});
  CHECK(alone.points[0].id == among.points[1].id);
  CHECK(hash_text("a") == "af63dc4c8601ec8c");  // FNV-1a, published value
}

TEST_CASE("plan: wrong words are refused") {
  CHECK_THROWS_AS(plan_of({{"mask", {"diagonal"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"pos", {"absolute"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"dtype", {"f64"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"pass", {"both"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"device", {"tpu"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"threads", {"1000000"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"problem", {"nq=8"}}, {"n", {"8"}}}), UsageError);
  CHECK_THROWS_AS(plan_of({{"n", {"1:1000:+1"}}, {"d", {"8:8000:+8"}}}), UsageError);  // a million points
  CHECK_THROWS_AS(parse_campaign({{"budget", {"0"}}}), UsageError);
  CHECK_THROWS_AS(parse_campaign({{"memory-limit", {"-1G"}}}), UsageError);
  CHECK_THROWS_AS(parse_campaign({{"memory-limit", {"lots"}}}), UsageError);
  CHECK_THROWS_AS(parse_campaign({{"baseline", {"nobody"}}}), UsageError);
  CHECK(parse_campaign({{"memory-limit", {"1.5G"}}}).memory_limit_bytes == size_t{3} << 29);
}

TEST_CASE("shards: every point once, balanced by cost, the same on every machine") {
  const Plan plan = plan_of({{"n", {"64:4096:x2"}}, {"mask", {"none causal"}}});
  constexpr double kBudget_s = 0.1;
  double all_s = 0, longest_s = 0;
  for (const PlanPoint& point : plan.points) {
    all_s += cost_s(point, kBudget_s);
    longest_s = std::max(longest_s, cost_s(point, kBudget_s));
  }
  for (int count : {1, 2, 3, 5, 40}) {
    std::multiset<std::string> ids;
    for (int index = 0; index < count; ++index) {
      const Plan share = share_of(plan, kBudget_s, {index, count});
      double total_s = 0;
      for (const PlanPoint& point : share.points) {
        ids.insert(point.id);
        total_s += cost_s(point, kBudget_s);
      }
      CHECK(total_s <= all_s / count + longest_s);  // the promise of longest first
    }
    CHECK(ids.size() == plan.points.size());
    CHECK(std::set<std::string>(ids.begin(), ids.end()).size() == ids.size());
  }
  CHECK(cost_s(plan.points[6], kBudget_s) > cost_s(plan.points[0], kBudget_s));
  const std::string table = plan_table(plan, kBudget_s, 3);
  CHECK(table == plan_table(plan, kBudget_s, 3));
  CHECK(std::count(table.begin(), table.end(), '\n') == static_cast<long>(plan.points.size() + 1));
}

TEST_CASE("shards: texts, and points by list") {
  CHECK(parse_shard("3/4").text() == "3/4");
  for (const char* text : {"", "4/4", "-1/4", "1", "1/0", "a/b", "1/2/3", "0/1000000", " 0/1", "0x0/2"}) {
    INFO("'" << text << "'");
    CHECK_THROWS_AS(parse_shard(text), UsageError);
  }
  const ScratchFolder folder;
  const Plan plan = plan_of({{"n", {"64", "128", "256"}}});
  std::ofstream(folder / "list.csv") << Plan::kColumns << '\n' << plan.points[2].csv() << '\n';
  const Plan part = listed_points(plan, folder / "list.csv");
  REQUIRE(part.points.size() == 1);
  CHECK(part.points[0].id == plan.points[2].id);
  std::ofstream(folder / "list.csv", std::ios::app) << "p0000,1,x,y\n";
  CHECK_THROWS_WITH(listed_points(plan, folder / "list.csv"), Catch::Contains("p0000"));
}

TEST_CASE("presets: keys, lists, overrides, refusals") {
  const ScratchFolder folder;
  const std::string path = folder / "mine.toml";
  const auto write = [&](const std::string& text) { std::ofstream(path) << text; };
  write(
      "description = 'mine'\nbudget = 0.5\n[[sweep]]\nn = [64, '128:256:x2']\nmask = "
      "'causal'\n[[sweep]]\nd-head = 8\n");
  Preset preset = read_preset(path);
  CHECK(preset.description == "mine");
  CHECK(preset.sweeps.size() == 2);
  CHECK(values_of(preset.sweeps[0], "n") == std::vector<std::string>{"64", "128:256:x2"});
  preset = override_preset(preset, {{"n", {"32"}}, {"d", {"16"}}, {"budget", {"9"}}});
  CHECK(value_of(preset.campaign, "budget") == "9");
  for (const Settings& sweep : preset.sweeps) CHECK(value_of(sweep, "n") == "32");
  CHECK(preset.sweeps[1].count("d-head") == 0);
  for (const char* text : {"[[sweep]]\nlength = 5\n", "n = 5\n[[sweep]]\nh=1\n", "[[sweep]]\nbudget = 1\n",
                           "budget = 1\n", "[[sweep]]\nn = true\n", "[[sweep]]\nn = []\n",
                           "[[sweep]]\nvariants = ['a','b']\n", "[[sweep]\nn=", "sweep = 3\n"}) {
    write(text);
    INFO(text);
    try {
      read_preset(path);
      FAIL("accepted");
    } catch (const UsageError& error) {
      CHECK(std::string(error.what()).find("mine.toml") != std::string::npos);
      CHECK(std::string(error.what()).find('\n') == std::string::npos);
    }
  }
}

TEST_CASE("presets of the program are valid") {
  size_t count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(ATTN_PRESET_FOLDER)) {
    INFO(entry.path().string());
    Preset preset = read_preset(entry.path().string());
    CHECK(!preset.description.empty());
    preset = override_preset(preset, {{"variants", {"^reference/cpu$"}}, {"device", {"cpu"}}});
    const Plan plan = make_plan(preset.sweeps, {});
    CHECK(!plan.points.empty());
    for (const PlanPoint& point : plan.points) CHECK(point.skipped == "");
    ++count;
  }
  CHECK(count >= 8);
}

TEST_CASE("the board adds up what each step took") {
  const auto wait = [] { std::this_thread::sleep_for(std::chrono::milliseconds(20)); };
  Board board;
  board.announce(Board::kNoVariant, Step::inputs);
  wait();
  board.announce(0, Step::check);
  wait();
  board.announce(1, Step::inputs);
  wait();
  const StepTimes times = board.step_times();
  CHECK(times[static_cast<size_t>(Step::inputs)] >= 0.04);  // twice, the present one included
  CHECK(times[static_cast<size_t>(Step::check)] >= 0.02);
  CHECK(times[static_cast<size_t>(Step::verify)] == 0);
  for (size_t k = 0; k < kSteps; ++k) CHECK(to_text(static_cast<Step>(k)) != "?");
  CHECK(to_text(static_cast<Step>(kSteps)) == "?");
}

TEST_CASE("job and outcome survive the wire") {
  Job job{.campaign = "c",
          .point = "p",
          .problem = "nq=8",
          .variants = {"a", "b"},
          .threads = 3,
          .seed = 7,
          .process = 1,
          .processes = 2,
          .budget_s = 0.1,
          .target = 0.01,
          .roofs = {1e11, 5e9, {{65536, 4e11}, {0.1, 1.0 / 3}}},
          .gpu_roofs = {{"b", {1e15, 4e12, {{8e10, 3e12}}}}},
          .time_s_predicted = {{"a", 1.0 / 3}}};
  CHECK(Job::parse(job.to_text()).to_text() == job.to_text());
  CHECK(Job::parse(job.to_text()).roofs.levels.at(1).read_bytes_per_s == 1.0 / 3);
  CHECK(Job::parse(job.to_text()).gpu_roofs.at("b").levels.at(0).read_bytes_per_s == 3e12);
  CHECK(Job::parse(job.to_text()).time_s_predicted == job.time_s_predicted);
  Outcome outcome;
  outcome.row.variant = "a\"b";
  outcome.row.reason = "bytes \xff that are no text";
  outcome.samples = {
      {.variant = "a\"b", .round = 3, .sample = 4, .time_s = 0.1, .cache = "hot", .throttled = "power_cap"}};
  const std::string line = outcome.to_line();
  CHECK(line.find('\n') == line.size() - 1);
  const Outcome back = Outcome::parse(line);
  CHECK(back.row.variant == outcome.row.variant);
  CHECK(back.samples.at(0).time_s == 0.1);
  CHECK(!back.samples.at(0).clock_hz);
  CHECK(back.samples.at(0).hot());
  CHECK(back.samples.at(0).throttled == "power_cap");
}
