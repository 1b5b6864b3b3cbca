// A campaign in shards: dealt, measured, merged, and equal to the campaign of one machine.

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "tests/program.h"

using namespace attn;

namespace {

const std::vector<std::string> kAxes = {"--n",    "16",     "24",         "32",
                                        "--mask", "causal", "--variants", "^(reference|slow)/"};

std::vector<std::string> command(const std::string& out, std::vector<std::string> more = {}) {
  more.insert(more.begin(), kAxes.begin(), kAxes.end());
  return sweep(out, more);
}

std::string shard_of(const std::string& out, int index, int count) {
  return out + "/shard-" + std::to_string(index) + "-of-" + std::to_string(count);
}

/// A folder with both shards of two, measured.
void measure_shards(const ScratchFolder& folder, const std::string& out) {
  for (const char* shard : {"0/2", "1/2"}) {
    const Run result = run(folder, command(out, {"--shard", shard}));
    INFO(result.output << result.errors);
    REQUIRE(result.exit_code == 0);
  }
}

std::string exact_text(const std::string& out) {
  std::string text;
  for (const ResultRow& row : read_results(out + "/results.csv")) text += to_csv(exact_part(row));
  return text;
}

void edit(const std::string& path, const std::string& from, const std::string& to) {
  std::string text = read_text(path);
  const size_t place = text.find(from);
  REQUIRE(place != std::string::npos);
  std::ofstream(path) << text.replace(place, from.size(), to);
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

}  // namespace

TEST_CASE("shards in any order merge to the campaign of one machine") {
  const ScratchFolder folder;
  const std::string whole = folder / "whole", out = folder / "out", turned = folder / "turned";
  REQUIRE(run(folder, command(whole)).exit_code == 0);
  measure_shards(folder, out);
  const std::string first = shard_of(out, 0, 2), second = shard_of(out, 1, 2);
  REQUIRE(row_count(first) + row_count(second) == 6);
  for (const std::string& shard : {first, second}) {  // all variants of a point on one machine
    std::map<std::string, int> variants;
    for (const ResultRow& row : read_results(shard + "/results.csv")) ++variants[row.point];
    for (const auto& [point, count] : variants) CHECK(count == 2);
  }
  REQUIRE(run(folder, {"merge", first, second, "--out", out}).exit_code == 0);
  REQUIRE(run(folder, {"merge", second, first, "--out", turned}).exit_code == 0);
  CHECK(exact_text(out) == exact_text(turned));
  CHECK(exact_rows(out) == exact_rows(whole));
  check_samples(out);
  CHECK(read_text(out + "/plan.csv") == read_text(whole + "/plan.csv"));
  for (const ResultRow& row : read_results(out + "/results.csv")) {
    CHECK(!row.node.empty());
    CHECK(row.machine.empty());
  }
  const auto environment = nlohmann::json::parse(read_text(out + "/environment.json"));
  CHECK(environment["sessions"].size() == 2);
  CHECK(run(folder, {"fit", out}).exit_code == 0);
  const Run resumed = run(folder, command(out));  // a merged folder is the folder of the whole campaign
  CHECK(resumed.output.find("every row has been measured") != std::string::npos);
}

TEST_CASE("a lost shard: the missing points are named, and the printed commands measure just them") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  measure_shards(folder, out);
  const std::string kept = shard_of(out, 0, 2), lost = shard_of(out, 1, 2);
  const size_t lost_rows = row_count(lost);
  std::filesystem::remove_all(lost);
  const Run result = run(folder, {"merge", kept, "--out", out});
  INFO(result.output << result.errors);
  CHECK(result.exit_code == 1);
  CHECK(!std::filesystem::exists(out + "/results.csv"));
  CHECK(lines_of(read_text(out + "/missing.csv")).size() == 1 + lost_rows / 2);
  CHECK(run(folder, {"merge", kept, "--partial", "--out", folder / "partial"}).exit_code == 1);
  CHECK(row_count(folder / "partial") == 6 - lost_rows);

  size_t commands = 0;
  for (const std::string& line : lines_of(result.output)) {
    const std::string start = "  attnbench ";
    if (!line.starts_with(start)) continue;
    ++commands;
    const std::string words = ATTN_TEST_PROGRAM " " + line.substr(start.size()) + " > /dev/null";
    REQUIRE(std::system(words.c_str()) == 0);
  }
  CHECK(commands == 2);
  CHECK(row_count(out + "/missing") == lost_rows);
  CHECK(row_count(out) == 6);
  CHECK(!std::filesystem::exists(out + "/missing.csv"));
  check_samples(out);
}

TEST_CASE("rows measured twice: the first counts, differences are told, copies are not") {
  const ScratchFolder folder;
  const std::string out = folder / "out", again = folder / "again";
  measure_shards(folder, out);
  const std::string first = shard_of(out, 0, 2), second = shard_of(out, 1, 2);
  REQUIRE(run(folder, command(again, {"--shard", "0/2"})).exit_code == 0);
  const std::string twin = shard_of(again, 0, 2);
  const std::string rows = read_text(first + "/results.csv");
  const Run merged = run(folder, {"merge", first, second, twin, "--out", out});
  CHECK(merged.exit_code == 0);
  CHECK(merged.output.find(std::to_string(row_count(first)) + " rows were measured twice") !=
        std::string::npos);
  CHECK(merged.output.find("differ") == std::string::npos);
  for (const std::string& line : lines_of(rows)) {
    CHECK(read_text(out + "/results.csv").find(line) != std::string::npos);
  }
  check_samples(out);
  const Run copies = run(folder, {"merge", first, second, "--out", out});
  CHECK(copies.output.find("twice") == std::string::npos);
  edit(twin + "/results.csv", ",yes,", ",no,");
  const Run differing = run(folder, {"merge", first, second, twin, "--out", out});
  CHECK(differing.exit_code == 0);
  CHECK(differing.output.find("1 of them differ") != std::string::npos);
}

TEST_CASE("other campaigns, machines and damaged folders are refused in one line") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  measure_shards(folder, out);
  const std::string first = shard_of(out, 0, 2), second = shard_of(out, 1, 2), other = folder / "other";
  const auto refused = [&](const std::string& reason, std::vector<std::string> words) {
    words.insert(words.begin(), "merge");
    words.insert(words.end(), {"--out", folder / "merged"});
    const Run result = run(folder, words);
    INFO(result.errors);
    CHECK(result.exit_code == 2);
    CHECK(result.errors.find(reason) != std::string::npos);
    CHECK(lines_of(result.errors).size() == 1);
    CHECK(!std::filesystem::exists(folder / "merged/results.csv"));
  };
  refused("cannot read", {first, folder / "nowhere"});
  REQUIRE(run(folder, command(other, {"--seed", "2"})).exit_code == 0);
  refused("different campaigns", {first, second, other});
  edit(second + "/environment.json", "\"model\": \"", "\"model\": \"Another ");
  refused("their cpu model differs", {first, second});
  std::ofstream(second + "/campaign.json") << "{";
  refused("damaged", {first, second});
}

TEST_CASE("mixed machines are joined when asked for, and kept apart by the column machine") {
  const ScratchFolder folder;
  const std::string here = folder / "here", there = folder / "there", out = folder / "out";
  REQUIRE(run(folder, command(here)).exit_code == 0);
  REQUIRE(run(folder, command(there)).exit_code == 0);
  edit(there + "/environment.json", "\"model\": \"", "\"model\": \"Another ");
  const Run merged = run(folder, {"merge", here, there, "--mixed", "--out", out});
  INFO(merged.output << merged.errors);
  REQUIRE(merged.exit_code == 0);
  std::map<std::string, size_t> machines;
  std::set<std::string> points;
  for (const ResultRow& row : read_results(out + "/results.csv")) {
    ++machines[row.machine];
    points.insert(row.point);
  }
  REQUIRE(machines.size() == 2);
  for (const auto& [machine, count] : machines) CHECK(count == 6);
  CHECK(points.size() == 6);
  check_samples(out);
  CHECK(nlohmann::json::parse(read_text(out + "/environment.json"))["machines"].size() == 2);
  REQUIRE(run(folder, {"fit", out}).exit_code == 0);
  const std::string fits = read_text(out + "/fits.csv");
  for (const auto& [machine, count] : machines) {
    CHECK(fits.find("machine=" + machine) != std::string::npos);
  }
  CHECK(run(folder, command(out)).exit_code == 2);  // not the folder of one campaign any more
  CHECK(run(folder, {"merge", here, "--out", out}).exit_code == 2);
}

TEST_CASE("the shard comes from Slurm's environment where no option gives it") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  setenv("SLURM_ARRAY_TASK_ID", "1", 1);
  setenv("SLURM_ARRAY_TASK_COUNT", "2", 1);
  const Run from_slurm = run(folder, command(out));
  const Run explicit_one = run(folder, command(out, {"--shard", "0/2"}));
  setenv("SLURM_ARRAY_TASK_ID", "2", 1);
  const Run beyond = run(folder, command(out));
  unsetenv("SLURM_ARRAY_TASK_ID");
  unsetenv("SLURM_ARRAY_TASK_COUNT");
  CHECK(from_slurm.exit_code == 0);
  CHECK(from_slurm.output.find("shard 1/2") != std::string::npos);
  CHECK(explicit_one.exit_code == 0);
  CHECK(row_count(shard_of(out, 0, 2)) + row_count(shard_of(out, 1, 2)) == 6);
  CHECK(beyond.exit_code == 2);
  CHECK(beyond.errors.find("--array=0-N") != std::string::npos);
}
