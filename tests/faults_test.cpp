// Faults from outside: kills at random moments, full disks, read-only folders, limits of memory, a clock that
// goes back, a busy host. Nothing measured is lost, and one line says what happened.
// ATTN_KILL_TRIALS=200 tests/faults_test "*random*" is the long run.

#include <sys/mount.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "tests/program.h"

using namespace attn;

namespace {

bool one_line(const std::string& text) {
  return std::count(text.begin(), text.end(), '\n') == 1 && text.back() == '\n';
}

void sleep_ms(int64_t milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); }

void limit(__rlimit_resource resource, rlim_t bytes) {
  const rlimit both{bytes, bytes};
  setrlimit(resource, &both);
}

std::vector<std::string> command(const std::string& out) {
  return sweep(out, {"--n", "16:56:+8", "--mask", "none", "causal", "--variants", "^(reference|slow)/"});
}

/// A file system of its own on a folder, where this process may mount one.
class SmallDisk {
 public:
  SmallDisk(const ScratchFolder& folder, const char* size) : path_(folder / "disk") {
    std::filesystem::create_directory(path_);
    mounted_ = mount("tmpfs", path_.c_str(), "tmpfs", 0, size) == 0;
    if (!mounted_) WARN("no file system may be mounted here: left out");
  }
  SmallDisk(const SmallDisk&) = delete;
  ~SmallDisk() {
    if (mounted_) umount2(path_.c_str(), MNT_DETACH);
  }
  explicit operator bool() const { return mounted_; }
  const std::string& path() const { return path_; }
  void remount(unsigned long flags, const char* size) const {
    REQUIRE(mount("tmpfs", path_.c_str(), "tmpfs", MS_REMOUNT | flags, size) == 0);
  }

 private:
  std::string path_;
  bool mounted_;
};

/// Kills workers and supervisors of campaigns at random moments, and checks the folder after each.
class KillTrials {
 public:
  KillTrials(const ScratchFolder& folder, const std::string& clean, uint64_t seed)
      : folder_(folder), clean_(clean), random_(seed) {
    fresh_campaign();
  }

  void run(int trials) {
    for (int trial = 0; trial < trials; ++trial) {
      INFO("trial " << trial);
      Program program(command(out_), folder_ / "output.txt");
      sleep_ms(random_() % 300);
      // A second kill at one point would be told as a crash: a worker dies once a run.
      if (trial % 2 == 0) kill_worker(program);
      program.signal(SIGKILL);
      const int exit_code = program.wait();
      REQUIRE((exit_code == 1000 + SIGKILL || exit_code == 0));
      check_kept();
      if (row_count(out_) == kRows) finish_campaign();
    }
    finish_campaign();
  }
  int campaigns() const { return campaigns_; }

 private:
  static constexpr size_t kRows = 24;

  void kill_worker(const Program& program) {
    const size_t before = row_count(out_);
    const auto workers = program.workers();
    for (pid_t worker : workers) kill(worker, SIGKILL);
    for (int wait = 0; wait < 500 && !workers.empty() && row_count(out_) == before; ++wait) sleep_ms(2);
    sleep_ms(random_() % 100);
  }

  /// What was written stays, byte for byte, but for a torn last line.
  void check_kept() {
    const std::string results =
        std::filesystem::exists(out_ + "/results.csv") ? read_text(out_ + "/results.csv") : "";
    REQUIRE(results.compare(0, kept_.size(), kept_) == 0);
    kept_ = results.substr(0, results.rfind('\n') + 1);
    std::set<std::pair<std::string, std::string>> keys;
    if (kept_.empty()) return;
    for (const ResultRow& row : read_results(out_ + "/results.csv")) {
      REQUIRE(row.status == Status::ok);
      REQUIRE(keys.emplace(row.point, row.variant).second);
    }
  }

  void finish_campaign() {
    const Run last = attn::run(folder_, command(out_));
    INFO(last.output << last.errors);
    REQUIRE(last.exit_code == 0);
    check_kept();
    REQUIRE(exact_rows(out_) == exact_rows(clean_));
    check_samples(out_);
    fresh_campaign();
  }

  void fresh_campaign() {
    out_ = folder_ / ("campaign" + std::to_string(campaigns_++));
    kept_.clear();
    std::filesystem::create_directory(out_);
    std::filesystem::copy_file(clean_ + "/environment.json", out_ + "/environment.json");  // its roofs
  }

  const ScratchFolder& folder_;
  std::string clean_, out_, kept_;
  std::mt19937_64 random_;
  int campaigns_ = 0;
};

}  // namespace

TEST_CASE("kills at random moments lose no row and repeat none") {
  const ScratchFolder folder;
  const std::string clean = folder / "clean";
  REQUIRE(run(folder, command(clean)).exit_code == 0);
  const char* given = std::getenv("ATTN_KILL_TRIALS");
  const int trials = given ? std::atoi(given) : 30;
  KillTrials kills(folder, clean, 1);
  kills.run(trials);
  WARN(trials << " kills in " << kills.campaigns() - 1 << " campaigns");
}

TEST_CASE("a kill before the first row, and folders without anything, are survived") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  for (int wait_ms : {0, 5, 20, 80}) {
    Program program(command(out), folder / "output.txt");
    sleep_ms(wait_ms);
    program.signal(SIGKILL);
    program.wait();
  }
  CHECK(run(folder, command(out)).exit_code == 0);
  CHECK(row_count(out) == 24);
  check_samples(out);
}

TEST_CASE("a torn last line is told, and its row is measured again") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  REQUIRE(run(folder, command(out)).exit_code == 0);
  const auto rows = exact_rows(out);
  const auto size = std::filesystem::file_size(out + "/results.csv");
  std::filesystem::resize_file(out + "/results.csv", size - 10);
  const Run again = run(folder, command(out));
  CHECK(again.exit_code == 0);
  CHECK(again.output.find("ended in a torn line") != std::string::npos);
  CHECK(again.output.find("23 rows are there already") != std::string::npos);
  CHECK(exact_rows(out) == rows);
  check_samples(out);
}

TEST_CASE("a full disk ends the sweep with the file's name, and the rows before it stay") {
  const ScratchFolder folder;
  const SmallDisk disk(folder, "size=36k");
  if (!disk) return;
  const std::string out = disk.path() + "/out";
  const Run full = run(folder, command(out));
  INFO(full.errors);
  CHECK(full.exit_code == 1);
  CHECK(one_line(full.errors));
  CHECK(full.errors.find(out) != std::string::npos);
  CHECK((full.errors.find("No space") != std::string::npos ||
         full.errors.find("disk full") != std::string::npos));
  const size_t rows = row_count(out);
  CHECK(rows < 24);
  const std::string kept = read_text(out + "/results.csv");
  disk.remount(0, "size=4m");
  CHECK(run(folder, command(out)).exit_code == 0);
  CHECK(row_count(out) == 24);
  CHECK(read_text(out + "/results.csv").starts_with(kept.substr(0, kept.rfind('\n') + 1)));
  check_samples(out);
}

TEST_CASE("a limit of file sizes is an error like a full disk, at whatever byte it comes") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  std::string kept;
  for (rlim_t kilobytes = 8; kilobytes <= 40; kilobytes += 8) {
    const Run limited = run(folder, command(out), [&] { limit(RLIMIT_FSIZE, kilobytes << 10); });
    INFO(kilobytes << " KiB: " << limited.errors);
    if (limited.exit_code != 0) {
      CHECK(limited.exit_code == 1);
      CHECK(one_line(limited.errors));
      CHECK(limited.errors.find(out) != std::string::npos);
    }
    if (!std::filesystem::exists(out + "/results.csv")) continue;
    const std::string results = read_text(out + "/results.csv");
    CHECK(results.starts_with(kept));
    kept = results.substr(0, results.rfind('\n') + 1);
  }
  CHECK(!kept.empty());
  CHECK(run(folder, command(out)).exit_code == 0);
  CHECK(read_text(out + "/results.csv").starts_with(kept));
  CHECK(row_count(out) == 24);
  check_samples(out);
}

TEST_CASE("a read-only folder is one line") {
  const ScratchFolder folder;
  const SmallDisk disk(folder, "size=1m");
  if (!disk) return;
  disk.remount(MS_RDONLY, "size=1m");
  for (const std::string& out : {disk.path(), disk.path() + "/out"}) {
    const Run result = run(folder, command(out));
    INFO(result.errors);
    CHECK(result.exit_code == 1);
    CHECK(one_line(result.errors));
    CHECK(result.errors.find(out) != std::string::npos);
    CHECK(result.errors.find("Read-only") != std::string::npos);
  }
}

#if !defined(__SANITIZE_ADDRESS__)  // it reserves terabytes, and wants to be preloaded first

TEST_CASE("a variant that takes all memory of a limited process is a row, and the others are measured") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const Run result = run(folder, sweep(out, {"--n", "16", "32", "--variants", "^(reference|greedy)/"}),
                         [] { limit(RLIMIT_AS, rlim_t{2} << 30); });
  INFO(result.output << result.errors);
  REQUIRE(result.exit_code == 0);
  REQUIRE(row_count(out) == 4);
  for (const ResultRow& row : read_results(out + "/results.csv")) {
    CHECK(row.status == (row.variant == "greedy/cpu" ? Status::out_of_memory : Status::ok));
  }
}

TEST_CASE("a wall clock that goes back changes nothing that is measured") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  const Run result = run(folder, sweep(out, {"--n", "16", "32", "--variants", "^(reference|slow)/"}),
                         [] { setenv("LD_PRELOAD", ATTN_BACKWARD_CLOCK, 1); });
  INFO(result.output << result.errors);
  REQUIRE(result.exit_code == 0);
  REQUIRE(row_count(out) == 4);
  for (const ResultRow& row : read_results(out + "/results.csv")) {
    CHECK(row.status == Status::ok);
    CHECK(*row.time_s_min > 0);
    CHECK(*row.time_s_median < 60);
  }
  const auto environment = nlohmann::json::parse(read_text(out + "/environment.json"));
  CHECK(environment["end"].get<std::string>() < environment["start"].get<std::string>());  // it did go back
}

#endif

TEST_CASE("a busy host is seen in the rows that were timed meanwhile") {
  const ScratchFolder folder;
  const std::string out = folder / "out";
  std::atomic<bool> done{false};
  std::vector<std::thread> load;
  for (unsigned k = 0; k < 2 * std::max(1u, std::thread::hardware_concurrency()); ++k) {
    load.emplace_back([&] {
      while (!done) {
      }
    });
  }
  const Run result = run(folder, sweep(out, {"--n", "64", "--variants", "^reference/"}));
  done = true;
  for (std::thread& thread : load) thread.join();
  REQUIRE(result.exit_code == 0);
  const ResultRow row = read_results(out + "/results.csv").at(0);
  CHECK(!row.node.empty());
  REQUIRE(row.steal_fraction.has_value() == std::filesystem::exists("/proc/stat"));
  if (!std::filesystem::exists("/proc/pressure/cpu")) return;
  REQUIRE(row.cpu_pressure.has_value());
  CHECK(*row.cpu_pressure > 0);
  CHECK(*row.cpu_pressure <= 1);
}
