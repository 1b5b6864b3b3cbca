// Result files: text form of rows, torn lines, locks, refusals.

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <sstream>

#include "harness/problem/error.h"
#include "harness/results/append_file.h"
#include "harness/results/csv.h"
#include "harness/results/schema.h"
#include "tests/catch.h"
#include "tests/scratch_folder.h"

using namespace attn;

namespace {

ResultRow example_row() {
  ResultRow row;
  row.campaign = "c0123";
  row.point = "p4567";
  row.variant = "textbook/cpu";
  row.status = Status::ok;
  row.reason = "quotes \", commas, and so on";
  row.problem = "b=1,hq=8,mask=causal";
  row.density = 0.1 + 0.2;
  row.time_s_median = 1.0 / 3;
  row.time_s_min = 5e-324;
  row.samples = 12;
  row.roof_fraction = 0.75;
  row.bound = "memory";
  row.error_rel_l2 = 1e-7;
  row.deterministic = "yes";
  row.seed = 42;
  return row;
}

std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write_text(const std::string& path, const std::string& text) { std::ofstream(path) << text; }

}  // namespace

TEST_CASE("a row read back is the row written, bit for bit") {
  const ScratchFolder folder;
  const ResultRow row = example_row();
  write_text(folder / "results.csv", results_header() + to_csv(row));
  const auto rows = read_results(folder / "results.csv");
  REQUIRE(rows.size() == 1);
  CHECK(to_csv(rows[0]) == to_csv(row));
  CHECK(rows[0].reason == row.reason);
  CHECK(rows[0].problem == row.problem);
  CHECK(rows[0].density == row.density);
  CHECK(rows[0].time_s_median == row.time_s_median);
  CHECK(rows[0].time_s_min == row.time_s_min);
  CHECK(rows[0].samples == row.samples);
  CHECK(!rows[0].ratio_to_baseline);
  CHECK(rows[0].roof_fraction == 0.75);
  CHECK(rows[0].bound == "memory");
  CHECK(rows[0].status == Status::ok);
}

TEST_CASE("folders of the schema before are read, what they lack is empty, and they are not continued") {
  const std::string folder = ATTN_SOURCE_FOLDER "/results/quick";
  const auto rows = read_results(folder + "/results.csv");
  REQUIRE(rows.size() > 10);
  CHECK(rows[0].schema == 2);
  CHECK(rows[0].repro.starts_with("attnbench sweep"));
  CHECK(rows[0].node.empty());
  CHECK(!rows[0].steal_fraction);
  CHECK(!read_samples(folder + "/samples.csv").empty());
  const ResultRow of_gpu = read_results(ATTN_SOURCE_FOLDER "/results/h200/results.csv").front();
  CHECK(of_gpu.schema == 5);
  CHECK(of_gpu.device == "cuda");
  CHECK(of_gpu.launch == "");
  CHECK(!of_gpu.latency_s_median);
  const ScratchFolder scratch;
  std::filesystem::copy_file(folder + "/results.csv", scratch / "results.csv");
  CHECK_THROWS_WITH(AppendFile(scratch / "results.csv", results_header()), Catch::Contains("other columns"));
}

TEST_CASE("absent numbers are empty fields, zero is zero") {
  SampleRow sample{.point = "p", .variant = "v"};
  CHECK(to_csv(sample) == "p,v,0,0,0,0,,,,\n");
  sample.clock_hz = 0.0;
  CHECK(to_csv(sample) == "p,v,0,0,0,0,,0,,\n");
}

TEST_CASE("a line break in a reason cannot split a row") {
  ResultRow row = example_row();
  row.reason = "first\nsecond\r\nthird";
  const std::string line = to_csv(row);
  CHECK(line.find('\n') == line.size() - 1);
  CHECK(line.find('\r') == std::string::npos);
}

TEST_CASE("every status has a name that parses") {
  for (Status status : {Status::ok, Status::disagrees, Status::unsupported, Status::out_of_memory,
                        Status::timed_out, Status::crashed, Status::skipped}) {
    CHECK(parse_status(to_text(status)) == status);
  }
  CHECK_THROWS_AS(parse_status("fine"), UsageError);
}

TEST_CASE("CSV fields after RFC 4180") {
  std::string line;
  append_csv_field(line, "plain");
  line += ',';
  append_csv_field(line, "a,\"b\"");
  line += ',';
  append_csv_field(line, "");
  CHECK(line == "plain,\"a,\"\"b\"\"\",");
  CHECK(split_csv_record(line, "here") == std::vector<std::string>{"plain", "a,\"b\"", ""});
  CHECK(split_csv_record("", "here") == std::vector<std::string>{""});
  CHECK_THROWS_AS(split_csv_record("\"open", "here"), UsageError);
  CHECK_THROWS_AS(split_csv_record("\"a\"b,c", "here"), UsageError);
  CHECK_THROWS_AS(split_csv_record("a\"b", "here"), UsageError);
}

TEST_CASE("a torn last line is left out by readers and cut off by writers, wherever it tears") {
  const ScratchFolder folder;
  const std::string path = folder / "results.csv", line = to_csv(example_row());
  for (size_t kept = 0; kept < line.size(); ++kept) {
    write_text(path, results_header() + line + line.substr(0, kept));
    REQUIRE(read_results(path).size() == 1);
    AppendFile(path, results_header()).append(line);
    REQUIRE(read_text(path) == results_header() + line + line);
  }
}

TEST_CASE("a file torn inside the header starts over") {
  const ScratchFolder folder;
  const std::string path = folder / "results.csv";
  write_text(path, results_header().substr(0, 20));
  AppendFile(path, results_header()).append(to_csv(example_row()));
  CHECK(read_results(path).size() == 1);
}

TEST_CASE("damaged rows are refused with file and line") {
  const ScratchFolder folder;
  const std::string path = folder / "results.csv", line = to_csv(example_row());
  write_text(path, results_header() + line + "x," + line);
  CHECK_THROWS_WITH(read_results(path), Catch::Contains("results.csv:3"));
  write_text(path, results_header() + line.substr(0, line.rfind(',')) + "\n");
  CHECK_THROWS_WITH(read_results(path), Catch::Contains("results.csv:2"));
  write_text(path, "point,variant\n" + line);
  CHECK_THROWS_AS(read_results(path), UsageError);
  CHECK_THROWS_AS(AppendFile(path, results_header()), UsageError);
  CHECK_THROWS_AS(read_results(folder / "absent.csv"), UsageError);
}

TEST_CASE("a file with CRLF line ends reads the same") {
  const ScratchFolder folder;
  std::string text = results_header() + to_csv(example_row());
  for (size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 2) text.replace(at, 1, "\r\n");
  write_text(folder / "results.csv", text);
  CHECK(to_csv(read_results(folder / "results.csv").at(0)) == to_csv(example_row()));
}

TEST_CASE("a write that cannot happen names the file") {
  if (::access("/dev/full", W_OK) != 0) return;
  const int full = ::open("/dev/full", O_WRONLY);
  REQUIRE(full >= 0);
  ::close(full);
  CHECK_THROWS_WITH(AppendFile("/dev/full", results_header()).append("x\n"), Catch::Contains("/dev/full"));
}

TEST_CASE("a second process cannot write to the folder of the first") {
  const ScratchFolder folder;
  const FolderLock lock(folder.path());
  const pid_t child = fork();
  if (child == 0) {
    try {
      const FolderLock second(folder.path());
    } catch (const UsageError&) {
      _exit(7);
    } catch (...) {
      _exit(8);
    }
    _exit(0);
  }
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  CHECK(WEXITSTATUS(status) == 7);
}
