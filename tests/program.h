#pragma once
// Runs of the whole program (tests/faulty_variants.cpp linked in), and what its folders must hold.

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "harness/results/schema.h"
#include "tests/catch.h"
#include "tests/scratch_folder.h"

namespace attn {

/// A run of the program (tests/faulty_variants.cpp linked in), in its own process group.
class Program {
 public:
  /// `prepare` runs in the child first.
  Program(const std::vector<std::string>& arguments, const std::string& output,
          const std::function<void()>& prepare = {}) {
    process_ = fork();
    if (process_ != 0) return;
    setpgid(0, 0);
    if (prepare) prepare();
    std::vector<std::string> words = {ATTN_TEST_PROGRAM};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    if (!std::freopen(output.c_str(), "w", stdout)) _exit(126);
    if (!std::freopen((output + ".errors").c_str(), "w", stderr)) _exit(126);
    execv(ATTN_TEST_PROGRAM, argv.data());
    _exit(127);
  }
  /// Exit code, or 1000 + the signal.
  int wait() {
    int status = 0;
    while (waitpid(process_, &status, 0) < 0) {
    }
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
  }
  void signal(int number) const { kill(process_, number); }
  /// Process ids of the workers alive.
  std::vector<pid_t> workers() const {
    std::vector<pid_t> found;
    std::ifstream file("/proc/" + std::to_string(process_) + "/task/" + std::to_string(process_) +
                       "/children");
    for (pid_t child; file >> child;) found.push_back(child);
    return found;
  }

 private:
  pid_t process_;
};

/// Neither gone nor a zombie that waits for its new parent.
inline bool alive(pid_t process) {
  std::ifstream file("/proc/" + std::to_string(process) + "/stat");
  std::string line;
  std::getline(file, line);
  const size_t name_end = line.rfind(')');
  return name_end != std::string::npos && line.compare(name_end, 3, ") Z") != 0;
}

struct Run {
  int exit_code;
  std::string output, errors;  // standard output and standard error
};

inline std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

inline Run run(const ScratchFolder& folder, std::vector<std::string> arguments,
               const std::function<void()>& prepare = {}) {
  const std::string output = folder / "output.txt";
  Program program(arguments, output, prepare);
  const int exit_code = program.wait();
  return {exit_code, read_text(output), read_text(output + ".errors")};
}

/// Without a probe, unless `more` says otherwise: faults are counted.
inline std::vector<std::string> sweep(const std::string& out, std::vector<std::string> more) {
  std::vector<std::string> words = {"sweep",    "--no-report", "--out", out,  "--threads", "1",
                                    "--budget", "0.02",        "--d",   "32", "--h",       "2"};
  if (std::find(more.begin(), more.end(), "--rates") == more.end()) {
    words.insert(words.end(), {"--rates", "roof"});
  }
  words.insert(words.end(), more.begin(), more.end());
  return words;
}

inline std::map<std::string, ResultRow> rows_by_variant(const std::string& out) {
  std::map<std::string, ResultRow> rows;
  for (const ResultRow& row : read_results(out + "/results.csv")) rows[row.variant] = row;
  return rows;
}

inline std::multiset<std::string> exact_rows(const std::string& out) {
  std::multiset<std::string> lines;
  for (const ResultRow& row : read_results(out + "/results.csv")) lines.insert(to_csv(exact_part(row)));
  return lines;
}

/// Every ok row has exactly its samples, and no samples stand alone.
inline void check_samples(const std::string& out) {
  std::map<std::pair<std::string, std::string>, int64_t> counts;
  for (const SampleRow& sample : read_samples(out + "/samples.csv")) ++counts[{sample.point, sample.variant}];
  for (const ResultRow& row : read_results(out + "/results.csv")) {
    INFO(row.variant << " " << row.problem);
    CHECK(counts[{row.point, row.variant}] == row.samples.value_or(0) + row.samples_hot.value_or(0));
    counts.erase({row.point, row.variant});
  }
  CHECK(counts.empty());
}

inline size_t row_count(const std::string& out) {
  const std::string path = out + "/results.csv";
  return std::filesystem::exists(path) && std::filesystem::file_size(path) > 0 ? read_results(path).size()
                                                                               : 0;
}

}  // namespace attn
