#include "harness/analysis/report.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <system_error>

#include "harness/problem/error.h"

namespace attn {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModules = "matplotlib, pandas, scipy, jinja2";

/// Runs a program, found on PATH, without a shell. Returns its exit status, 127 where it cannot be started.
int run_program(const std::vector<std::string>& arguments, bool quiet) {
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  if (quiet) {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
  }
  pid_t child = 0;
  const int error = posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) return 127;
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) throw std::system_error(errno, std::generic_category(), "waitpid");
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

}  // namespace

std::vector<std::string> python_candidates() {
  if (const char* chosen = std::getenv("ATTNBENCH_PYTHON"); chosen && *chosen) return {chosen};
  return {"python3", "/usr/bin/python3", fs::path(ATTN_SOURCE_DIR) / ".venv/bin/python3"};
}

std::string find_python() {
  const std::vector<std::string> candidates = python_candidates();
  for (const std::string& python : candidates) {
    if (run_program({python, "-c", fmt::format("import {}", kModules)}, true) == 0) return python;
  }
  std::string tried;
  for (const std::string& python : candidates) tried += (tried.empty() ? "" : ", ") + python;
  throw std::runtime_error(fmt::format(
      "no Python with {} (tried {}); install python3-matplotlib python3-pandas python3-scipy python3-jinja2, "
      "or set ATTNBENCH_PYTHON to an interpreter that has them",
      kModules, tried));
}

std::string run_report(const std::string& dir) {
  const fs::path folder(dir), script = fs::path(ATTN_SOURCE_DIR) / "plots/report.py";
  if (!fs::exists(folder / "results.csv")) {
    throw UsageError(fmt::format("{}: no results.csv here; expected the folder of a campaign", dir));
  }
  if (!fs::exists(script)) throw std::runtime_error(fmt::format("{} is missing", script.string()));
  const std::string python = find_python();
  fmt::print("drawing figures with {}\n", python);
  std::fflush(stdout);
  // An absolute folder: it cannot be taken for an option.
  const int status = run_program({python, script, fs::absolute(folder)}, false);
  if (status != 0)
    throw std::runtime_error(fmt::format("{} {} ended with status {}", python, script.string(), status));
  return folder / "report.html";
}

}  // namespace attn
