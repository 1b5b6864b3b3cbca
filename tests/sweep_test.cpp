// Whole campaigns: the program with variants that misbehave on purpose (tests/faulty_variants.cpp), killed,
// resumed and misused.

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/program.h"

using namespace attn;

TEST_CASE("a sweep writes its files, and every sample belongs to a row") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const Run result =
      run(folder, sweep(out, {"--n", "16:64:x2", "--h", "2", "3", "--mask", "none", "causal", "--variants",
                              "^(reference|slow)/", "--baseline", "reference/cpu"}));
  INFO(result.output << result.errors);
  REQUIRE(result.exit_code == 0);
  const auto rows = read_results(out + "/results.csv");
  CHECK(rows.size() == 2 * 2 * 2 * 3);
  for (const ResultRow& row : rows) {
    INFO(row.variant << " " << row.problem << " " << row.reason);
    CHECK(row.status == (row.heads_q == 3 ? Status::skipped : Status::ok));
    CHECK(row.time_s_median.has_value() == (row.status == Status::ok));
    CHECK(row.roof_fraction.has_value() == (row.status == Status::ok));
    CHECK(row.bound.empty() == (row.status != Status::ok));
    if (row.status != Status::ok) continue;
    CHECK(*row.roof_fraction > 0);
    CHECK(std::set<std::string>{"compute", "exp", "memory"}.count(row.bound) == 1);
    CHECK(row.deterministic == "yes");
    CHECK(*row.error_bound <= 1);
    CHECK(row.ratio_to_baseline.has_value());
    if (row.variant == "slow/cpu") CHECK(*row.ratio_to_baseline > 1);
    CHECK(*row.time_s_min <= *row.time_s_median);
    CHECK(row.memory_workspace_peak_bytes == row.memory_workspace_planned_bytes);
    CHECK(row.processes == 2);
    CHECK(row.outliers.has_value());
    CHECK(std::set<std::string>{"ratio", "median", "processes", "budget"}.count(row.stop) == 1);
  }
  std::set<int64_t> processes;
  for (const SampleRow& sample : read_samples(out + "/samples.csv")) processes.insert(sample.process);
  CHECK(processes == std::set<int64_t>{0, 1});
  check_samples(out);
  const auto environment = nlohmann::json::parse(read_text(out + "/environment.json"));
  CHECK(!environment["end"].is_null());
  CHECK(environment["roofs"]["by_threads"][0]["read_bytes_per_s"]["DRAM"].get<double>() > 0);
  CHECK(environment["command_line"].get<std::string>().find("16:64:x2") != std::string::npos);
  CHECK(read_text(out + "/plan.csv").find(rows[0].point) != std::string::npos);
}

TEST_CASE("the same command measures nothing twice; another campaign is refused") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const auto command = sweep(out, {"--n", "16", "32", "--variants", "^reference/cpu$"});
  REQUIRE(run(folder, command).exit_code == 0);
  const std::string results = read_text(out + "/results.csv"), samples = read_text(out + "/samples.csv");
  const Run again = run(folder, command);
  CHECK(again.exit_code == 0);
  CHECK(read_text(out + "/results.csv") == results);
  CHECK(read_text(out + "/samples.csv") == samples);
  const Run other = run(folder, sweep(out, {"--n", "16", "64", "--variants", "^reference/cpu$"}));
  CHECK(other.exit_code == 2);
  CHECK(other.errors.find("another campaign") != std::string::npos);
  CHECK(read_text(out + "/results.csv") == results);
}

TEST_CASE("a point resumed behind its baseline has its ratios all the same") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const auto command = sweep(out, {"--n", "16", "--variants", "^(reference|slow)/", "--baseline",
                                   "reference/cpu", "--processes", "3"});
  REQUIRE(run(folder, command).exit_code == 0);
  std::string kept = results_header();
  for (const ResultRow& row : read_results(out + "/results.csv")) {
    CHECK(row.processes == 3);
    if (row.variant == "reference/cpu") kept += to_csv(row);
  }
  std::ofstream(out + "/results.csv") << kept;
  REQUIRE(run(folder, command).exit_code == 0);
  CHECK(read_text(out + "/results.csv").compare(0, kept.size(), kept) == 0);
  const auto rows = read_results(out + "/results.csv");
  REQUIRE(rows.size() == 2);
  CHECK(rows[1].variant == "slow/cpu");
  CHECK(rows[1].ratio_to_baseline.has_value());
  check_samples(out);
}

TEST_CASE("the repro command of a row measures that row") {
  const ScratchFolder folder;
  const std::string out = folder / "out", again = folder / "again";
  REQUIRE(run(folder,
              sweep(out, {"--n", "24", "--mask", "causal", "--variants", "^reference/cpu$", "--seed", "5"}))
              .exit_code == 0);
  const ResultRow row = read_results(out + "/results.csv").at(0);
  CHECK(row.repro.find("attnbench sweep ") == 0);
  const std::string command =
      std::string(ATTN_TEST_PROGRAM) + row.repro.substr(9) + " --no-report --out " + again + " > /dev/null";
  REQUIRE(std::system(command.c_str()) == 0);
  CHECK(exact_rows(again) == exact_rows(out));
  CHECK(read_results(again + "/results.csv").at(0).point == row.point);
}

TEST_CASE("every misbehaving variant becomes its row, and the others are measured") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const Run result =
      run(folder,
          sweep(out, {"--n", "16", "--variants", "^(faulty|reference|prints|unsteady)/", "--timeout", "4"}));
  INFO(result.output << result.errors);
  REQUIRE(result.exit_code == 0);
  const auto rows = rows_by_variant(out);
  const auto expect = [&](const std::string& name, Status status, const std::string& reason) {
    INFO(name << ": " << rows.at(name).reason);
    CHECK(rows.at(name).status == status);
    CHECK(rows.at(name).reason.find(reason) != std::string::npos);
    CHECK(rows.at(name).time_s_median.has_value() == (status == Status::ok));
  };
  expect("reference/cpu", Status::ok, "");
  expect("prints/cpu", Status::ok, "");
#if defined(__SANITIZE_ADDRESS__)
  expect("faulty/segfault", Status::crashed,
         "exited with status");  // the sanitizer catches the signal and exits
#else
  expect("faulty/segfault", Status::crashed, "signal 11");
#endif
  expect("faulty/abort", Status::crashed, "signal 6");
  expect("faulty/exit", Status::crashed, "without a result");
  expect("faulty/hang", Status::timed_out, "took more than 4 s");
  expect("faulty/throws", Status::crashed, "a line and another, with \"quotes\"");
  expect("faulty/no_memory", Status::out_of_memory, "");
  expect("faulty/wrong", Status::disagrees, "");
  expect("faulty/huge_plan", Status::out_of_memory, "predicted");
  expect("faulty/forks", Status::crashed, "signal 6");
#if !defined(__SANITIZE_ADDRESS__)
  expect("faulty/divides_by_zero", Status::crashed, "signal 8");
#endif
  expect("faulty/nan", Status::disagrees, "");
  expect("faulty/overruns", Status::disagrees, "wrote beyond o");
  expect("faulty/overruns_scratch", Status::disagrees, "wrote beyond scratch");
  expect("faulty/uses_stale_scratch", Status::disagrees, "");
  expect("faulty/flushes_denormals", Status::disagrees,
         "denormal results flushed, denormal operands flushed");
  expect("faulty/rounds_up", Status::disagrees, "another rounding");
  expect("faulty/sets_threads", Status::disagrees, "changes the number of OpenMP threads (1 to 2)");
  expect("unsteady/cpu", Status::ok, "");
  CHECK(rows.at("unsteady/cpu").deterministic == "no");
  CHECK(rows.at("reference/cpu").deterministic == "yes");
  CHECK(rows.size() == 20);
  CHECK(result.output.find("noise on standard output") == std::string::npos);
  check_samples(out);
}

TEST_CASE("unsupported rows carry the variant's reason") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  REQUIRE(run(folder, {"sweep", "--no-report", "--out", out, "--problem", "hq=1,nq=8,d=13", "--variants",
                       "^slow/", "--threads", "1"})
              .exit_code == 0);
  const ResultRow row = rows_by_variant(out).at("slow/cpu");
  CHECK(row.status == Status::unsupported);
  CHECK(row.reason == "13 is unlucky");
}

TEST_CASE("kill -9 of worker and supervisor: resume loses nothing and repeats nothing") {
  const ScratchFolder folder;
  const std::string clean = folder / "clean", out = folder / "out";
  const auto command = [](const std::string& where) {
    return sweep(where, {"--n", "16", "24", "32", "40", "48", "56", "--mask", "none", "causal", "--variants",
                         "^(reference|slow)/"});
  };
  REQUIRE(run(folder, command(clean)).exit_code == 0);
  std::string kept;
  for (int round = 0; round < 4; ++round) {
    Program program(command(out), folder / "output.txt");
    const size_t before = row_count(out);
    for (int wait = 0; wait < 2000 && row_count(out) < before + 3; ++wait) {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(37 * round));
    if (round % 2 == 0) {
      for (pid_t worker : program.workers()) kill(worker, SIGKILL);  // the supervisor tries that point again
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    const auto workers = program.workers();
    program.signal(SIGKILL);
    CHECK(program.wait() == 1000 + SIGKILL);
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    for (pid_t worker : workers) CHECK(!alive(worker));  // died with its supervisor
    const std::string results = read_text(out + "/results.csv");
    CHECK(results.compare(0, kept.size(), kept) == 0);  // rows stay as they are
    kept = results.substr(0, results.rfind('\n') + 1);
  }
  std::ofstream(out + "/results.csv", std::ios::app) << "1,torn";
  std::ofstream(out + "/samples.csv", std::ios::app) << "pdeadbeef,slow/cpu,0,0,0,0.5,no,,,\npdead";
  const Run last = run(folder, command(out));
  INFO(last.output << last.errors);
  REQUIRE(last.exit_code == 0);
  CHECK(read_text(out + "/results.csv").compare(0, kept.size(), kept) == 0);
  CHECK(exact_rows(out) == exact_rows(clean));
  check_samples(out);
}

TEST_CASE("SIGINT and SIGTERM end cleanly with 130 and 143, and the command goes on later") {
  const ScratchFolder folder;
  for (int signal : {SIGINT, SIGTERM}) {
    const std::string out = folder / std::to_string(signal);
    const auto command = sweep(out, {"--n", "16:160:+16", "--variants", "^(reference|slow)/"});
    Program program(command, folder / "output.txt");
    for (int wait = 0; wait < 5000 && row_count(out) < 2; ++wait)
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
    program.signal(signal);
    CHECK(program.wait() == 128 + signal);
    CHECK(!nlohmann::json::parse(read_text(out + "/environment.json"))["end"].is_null());
    CHECK(read_text(out + "/results.csv").back() == '\n');
    const size_t before = row_count(out);
    CHECK(before < 20);
    CHECK(run(folder, command).exit_code == 0);
    CHECK(row_count(out) == 20);
    check_samples(out);
  }
}

TEST_CASE("a second writer is refused") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const auto command = sweep(out, {"--n", "16:160:+16", "--variants", "^slow/"});
  Program first(command, folder / "first.txt");
  for (int wait = 0; wait < 5000 && row_count(out) < 1; ++wait)
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  const Run second = run(folder, command);
  CHECK(second.exit_code == 2);
  CHECK(second.errors.find("another attnbench") != std::string::npos);
  first.signal(SIGTERM);
  CHECK(first.wait() == 143);
}

TEST_CASE("wrong use exits with 2 and one line") {
  const ScratchFolder folder;
  const std::vector<std::vector<std::string>> commands = {{"sweep", "--n", "1:1e18:1"},
                                                          {"sweep", "--n", "0"},
                                                          {"sweep", "--n", "8", "--processes", "0"},
                                                          {"sweep", "--n", "8", "--target", "-1"},
                                                          {"sweep", "--variants", "("},
                                                          {"sweep", "--preset", "nope"},
                                                          {"sweep", "--no-such-option"},
                                                          {"sweep", "--problem", "nq=0"},
                                                          {"sweep", "--n", "8", "--mask", "round"},
                                                          {"list", "--format", "xml"},
                                                          {"list", "--variants", "nobody"},
                                                          {"gbench", "--nonsense"},
                                                          {"env", "--format", "yaml"}};
  for (const auto& command : commands) {
    const Run result = run(folder, command);
    INFO(command[0] << " " << command[1] << ": " << result.errors);
    CHECK(result.exit_code == 2);
    CHECK(std::count(result.errors.begin(), result.errors.end(), '\n') == 1);
  }
}

namespace {

/// By the point's problem.
std::map<std::string, ResultRow> rows_by_problem(const std::string& out) {
  std::map<std::string, ResultRow> rows;
  for (const ResultRow& row : read_results(out + "/results.csv")) rows[row.problem] = row;
  return rows;
}

/// Leaves the header and the first rows.
void keep_rows(const std::string& out, size_t count) {
  std::istringstream lines(read_text(out + "/results.csv"));
  std::string kept, line;
  for (size_t k = 0; k <= count && std::getline(lines, line); ++k) kept += line + '\n';
  std::ofstream(out + "/results.csv") << kept;
}

}  // namespace

TEST_CASE("rows carry forecasts made before they were measured, from the rows before them") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const auto command = sweep(out, {"--n", "64", "128", "256", "--variants", "^reference/cpu$"});
  REQUIRE(run(folder, command).exit_code == 0);
  const auto rows = read_results(out + "/results.csv");
  REQUIRE(rows.size() == 3);
  for (const ResultRow& row : rows) {
    REQUIRE(row.time_s_predicted.has_value());
    CHECK(*row.memory_process_predicted_bytes >=
          *row.memory_operands_bytes + *row.memory_workspace_planned_bytes);
  }
  CHECK(*rows[1].time_s_predicted > *rows[0].time_s_median);
  CHECK(*rows[2].time_s_predicted > *rows[1].time_s_median);

  SECTION("also from those that a former run left") {
    keep_rows(out, 1);
    REQUIRE(run(folder, command).exit_code == 0);
    const auto again = read_results(out + "/results.csv");
    REQUIRE(again.size() == 3);
    CHECK(*again[0].time_s_median == *rows[0].time_s_median);
    CHECK(*again[1].time_s_predicted == Approx(*rows[1].time_s_predicted).epsilon(1e-12));
  }
  SECTION("also from another campaign") {
    const std::string other = folder / "other";
    const Run result = run(folder, sweep(other, {"--n", "64", "128", "--mask", "none", "causal", "--variants",
                                                 "^reference/cpu$", "--rates", out}));
    REQUIRE(result.exit_code == 0);
    CHECK(result.output.find("rates from the 3 rows of " + out) != std::string::npos);
    const auto known = rows_by_problem(out), found = rows_by_problem(other);
    for (const ResultRow& row : {rows[0], rows[1]}) {
      CHECK(*found.at(row.problem).time_s_predicted == Approx(*row.time_s_median).epsilon(1e-12));
    }
  }
  SECTION("also from a probe") {
    const std::string other = folder / "other";
    const Run result =
        run(folder,
            sweep(other, {"--n", "64", "--variants", "^(reference|faulty/segfault)", "--rates", "probe"}));
    REQUIRE(result.exit_code == 0);
    CHECK(result.output.find("rates from a probe of 1 calls") != std::string::npos);
    const auto found = rows_by_variant(other);
    CHECK(found.at("reference/cpu").time_s_predicted.has_value());
    CHECK(found.at("faulty/segfault").status == Status::crashed);
    CHECK(found.at("faulty/segfault").time_s_predicted.has_value());
    CHECK(row_count(other) == 2);
  }
}

TEST_CASE("a point that cannot fit is a row with its forecasts") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const Run result =
      run(folder, sweep(out, {"--n", "64", "4096", "--variants", "^reference/cpu$", "--memory-limit", "1M"}));
  REQUIRE(result.exit_code == 0);
  const auto rows = read_results(out + "/results.csv");
  REQUIRE(rows.size() == 2);
  CHECK(rows[0].status == Status::ok);
  CHECK(rows[1].status == Status::out_of_memory);
  CHECK(rows[1].reason.find("predicted ") == 0);
  CHECK(*rows[1].time_s_predicted > *rows[0].time_s_median);
  CHECK(*rows[1].memory_process_predicted_bytes > 1 << 20);
  CHECK(!rows[1].memory_process_peak_bytes.has_value());
  const auto environment = nlohmann::json::parse(read_text(out + "/environment.json"));
  CHECK(environment["sessions"][0]["memory_limit_bytes"] == 1 << 20);
  CHECK(read_text(out + "/frontier.csv").find("reference/cpu,") != std::string::npos);
}

TEST_CASE("a dry run prints the plan and measures nothing") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const Run result =
      run(folder,
          sweep(out, {"--n", "16", "--h", "2", "3", "--variants", "^(reference|faulty/huge)", "--dry-run"}));
  INFO(result.output << result.errors);
  CHECK(result.exit_code == 0);
  CHECK(!std::filesystem::exists(out));
  CHECK(result.output.find("skipped: d=32 is not a multiple of h=3") != std::string::npos);
  CHECK(result.output.find("out of memory") != std::string::npos);
  CHECK(result.output.find("2 points, 1 rows to measure, 3 refused") != std::string::npos);
  CHECK(result.output.find("\nETA ") != std::string::npos);
}

TEST_CASE("list, env and gbench print what they promise") {
  const ScratchFolder folder;
  const Run list = run(folder, {"list", "--format", "csv", "--variants", "^reference/cpu$"});
  CHECK(list.exit_code == 0);
  CHECK(list.output.find("name,family,device") == 0);
  CHECK(list.output.find("\nreference/cpu,") != std::string::npos);
  const Run env = run(folder, {"env", "--format", "json"});
  CHECK(nlohmann::json::parse(env.output).contains("cpu"));
  const Run bench =
      run(folder, {"gbench", "--problem", "hq=1,nq=16,d=8", "--variants", "^reference",
                   "--benchmark_format=json", "--benchmark_filter=reference", "--benchmark_min_time=0.01"});
  INFO(bench.output << bench.errors);
  CHECK(bench.exit_code == 0);
  CHECK(bench.output.find("\"name\": \"reference/cpu/b=1,hq=1") != std::string::npos);
}
