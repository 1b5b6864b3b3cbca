#include "harness/campaign/slurm.h"

#include <fmt/format.h>
#include <sys/wait.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <map>
#include <stdexcept>
#include <thread>

#include "harness/campaign/supervisor.h"
#include "harness/problem/text.h"
#include "harness/results/append_file.h"

namespace attn {
namespace {

constexpr std::chrono::milliseconds kPollInterval{2000};

struct Answer {
  int exit_code;
  std::string text;  ///< standard output and standard error
};

Answer ask(const std::vector<std::string>& words) {
  std::FILE* pipe = popen((shell_line(words) + " 2>&1 </dev/null").c_str(), "r");
  if (!pipe) throw std::runtime_error("cannot start " + words.front());
  Answer answer;
  char buffer[4096];
  for (size_t count; (count = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;)
    answer.text.append(buffer, count);
  const int status = pclose(pipe);
  answer.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128;
  return answer;
}

/// Tasks by state, "RUNNING" or "PENDING" most of the time; none once the job has ended. Slurm forgets ended
/// jobs, and then does not know the id. Throws std::runtime_error where there is no answer.
std::map<std::string, int> task_states(const std::string& id) {
  const Answer answer = ask({"squeue", "--noheader", "--array", "--format=%T", "--jobs=" + id});
  std::map<std::string, int> states;
  if (answer.exit_code != 0) {
    if (answer.text.find("Invalid job id") != std::string::npos) return states;
    throw std::runtime_error("squeue: " + answer.text);
  }
  for (const std::string_view state : split(answer.text, '\n')) {
    if (!state.empty()) ++states[std::string(state)];
  }
  return states;
}

std::string describe(const std::map<std::string, int>& states) {
  std::string text;
  for (const auto& [state, count] : states) {
    text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, state);
  }
  return text.empty() ? "ended" : text;
}

}  // namespace

std::string slurm_script(const SlurmJob& job) {
  std::string script = "#!/bin/bash\n";
  std::vector<std::string> directives = {"--job-name=attnbench",
                                         fmt::format("--array=0-{}", job.shards - 1),
                                         "--nodes=1",
                                         "--ntasks=1",
                                         "--exclusive",  // timing needs the node alone
                                         "--requeue",
                                         "--open-mode=append",
                                         fmt::format("--output={}/slurm-%a.log", job.folder)};
  directives.insert(directives.end(), job.directives.begin(), job.directives.end());
  for (const std::string& directive : directives)
    script += fmt::format("#SBATCH {}\n", shell_line({directive}));
  script += fmt::format("exec {} --shard \"$SLURM_ARRAY_TASK_ID/{}\" --out {}\n", shell_line(job.words),
                        job.shards, shell_line({job.folder}));
  return script;
}

std::string submit_or_find(const SlurmJob& job) {
  const std::string id_file = job.folder + "/slurm.job", script_file = job.folder + "/slurm.sh";
  std::string id;
  if (std::ifstream file(id_file); std::getline(file, id) && !task_states(id).empty()) {
    fmt::print("job {} is measuring into {} already\n", id, job.folder);
    return id;
  }
  replace_file(script_file, slurm_script(job));
  const Answer answer = ask({"sbatch", "--parsable", script_file});
  if (answer.exit_code == 127) {
    throw std::runtime_error(
        "sbatch is not here: run this where Slurm's jobs are submitted, or give `sweep --shard` "
        "to every machine yourself");
  }
  if (answer.exit_code != 0) throw std::runtime_error("sbatch: " + answer.text);
  id = answer.text.substr(0, answer.text.find_first_of(";\n"));
  replace_file(id_file, id + "\n");
  fmt::print("job {}: {} tasks, {}\n", id, job.shards, script_file);
  return id;
}

int wait_for_job(const std::string& id) {
  const SignalWatch watch;
  std::string told;
  for (;;) {
    std::string state;
    try {
      state = describe(task_states(id));
    } catch (const std::runtime_error& error) {  // the controller may be restarting
      state = error.what();
    }
    if (state != told) fmt::print("job {}: {}\n", id, state);
    std::fflush(stdout);
    if (state == "ended") return 0;
    told = state;
    if (SignalWatch::caught()) {
      fmt::print("job {} goes on; the same command waits for it, `scancel {}` ends it\n", id, id);
      return 128 + SignalWatch::caught();
    }
    std::this_thread::sleep_for(kPollInterval);
  }
}

}  // namespace attn
