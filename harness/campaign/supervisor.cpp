#include "harness/campaign/supervisor.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <optional>

#include "harness/campaign/row.h"
#include "harness/campaign/worker_process.h"
#include "harness/registry.h"

namespace attn {
namespace {

volatile std::sig_atomic_t caught_signal = 0;
struct sigaction former_interrupt, former_terminate;

/// Processes the kernel has killed for memory since boot, on the whole machine.
int64_t system_oom_kills() {
  std::ifstream file("/proc/vmstat");
  std::string name;
  for (int64_t value; file >> name >> value;) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

/// How a worker ended before its job did.
struct Failure {
  Status status;
  std::string reason;
  bool retry = false;        ///< not the variant's doing
  bool device_lost = false;  ///< by a variant that has its row
};

class Attempt {
 public:
  Attempt(const Job& job, double timeout_s)
      : timeout_s_(timeout_s), oom_kills_(system_oom_kills()), worker_(job) {}

  /// Receives outcomes until the worker ends. Nothing: it ended well.
  std::optional<Failure> watch(const std::function<void(const Outcome&)>& emit) {
    while (wait_for_news()) {
      const bool ended = worker_.ended();  // asked first: everything it wrote is in the pipe by then
      for (const std::string& line : worker_.read_lines()) emit(Outcome::parse(line));
      if (ended || worker_.closed()) break;
    }
    if (timed_out_) {
      worker_.kill_group();
      worker_.wait();
      return Failure{Status::timed_out,
                     fmt::format("{} took more than {} s", to_text(worker_.board().step.load()), timeout_s_)};
    }
    return explain(worker_.wait());
  }
  const Board& board() const { return worker_.board(); }

 private:
  /// Returns for data, an ended worker, or after a while; false when the step has taken too long.
  bool wait_for_news() {
    constexpr double kLongestWait_s = 0.25;  // also how late a signal or a time-out may be noticed
    if (SignalWatch::caught()) {
      worker_.kill_group();
      worker_.wait();
      throw Interrupted{SignalWatch::caught()};
    }
    const double left_s = timeout_s_ - worker_.board().seconds_in_step();
    timed_out_ = left_s <= 0;
    if (timed_out_) return false;
    pollfd watched{worker_.descriptor(), POLLIN, 0};
    const int ready = poll(&watched, 1, static_cast<int>(1000 * std::min(left_s, kLongestWait_s)) + 1);
    if (ready < 0 && errno != EINTR) throw std::runtime_error(std::strerror(errno));
    return true;
  }

  std::optional<Failure> explain(int status) const {
    const std::string where = to_text(worker_.board().step.load());
    if (WIFEXITED(status)) {
      if (WEXITSTATUS(status) == 0) return std::nullopt;
      if (WEXITSTATUS(status) == kExitOutOfMemory) {
        return Failure{Status::out_of_memory, fmt::format("no memory left during {}", where)};
      }
      return Failure{Status::crashed,
                     fmt::format("exited with status {} during {}", WEXITSTATUS(status), where), false,
                     WEXITSTATUS(status) == kExitDeviceLost};
    }
    const int signal = WTERMSIG(status);
    if (signal != SIGKILL) {
      return Failure{Status::crashed,
                     fmt::format("signal {} ({}) during {}", signal, strsignal(signal), where)};
    }
    if (system_oom_kills() > oom_kills_) {
      return Failure{Status::out_of_memory, fmt::format("killed by the system for memory during {}", where)};
    }
    return Failure{Status::crashed, fmt::format("killed from outside (SIGKILL) during {}", where), true};
  }

  double timeout_s_;
  int64_t oom_kills_;
  WorkerProcess worker_;
  bool timed_out_ = false;
};

Outcome failed_outcome(const Job& job, const std::string& variant, const Failure& failure) {
  Outcome outcome;
  outcome.row = describe_row(job, Problem::parse(job.problem), find_variant(variant));
  outcome.row.status = failure.status;
  outcome.row.reason = failure.reason;
  return outcome;
}

}  // namespace

SignalWatch::SignalWatch() {
  caught_signal = 0;
  struct sigaction action {};
  action.sa_handler = [](int signal) { caught_signal = signal; };
  sigaction(SIGINT, &action, &former_interrupt);
  sigaction(SIGTERM, &action, &former_terminate);
}

SignalWatch::~SignalWatch() {
  sigaction(SIGINT, &former_interrupt, nullptr);
  sigaction(SIGTERM, &former_terminate, nullptr);
}

int SignalWatch::caught() { return caught_signal; }

StepTimes supervise(const Job& job, double timeout_s, const std::function<void(const Outcome&)>& emit) {
  Job remaining = job;
  bool retried = false;
  StepTimes steps{};
  const auto finish = [&](const Outcome& outcome) {
    emit(outcome);
    std::erase(remaining.variants, outcome.row.variant);
  };
  while (!remaining.variants.empty()) {
    const Job job_now = remaining;  // the board's index refers to this list
    Attempt attempt(job_now, timeout_s);
    std::optional<Failure> failure = attempt.watch(finish);
    add_times(steps, attempt.board().step_times());
    if (remaining.variants.empty()) break;
    if (failure && failure->retry && !retried) {
      retried = true;
      continue;
    }
    if (!failure) failure = Failure{Status::crashed, "the worker ended without a result (exit called?)"};
    const int32_t at_work = attempt.board().variant.load();
    if (at_work == Board::kNoVariant) {  // inputs or oracle: no variant's own failure, but none can be judged
      for (const std::string& variant : std::vector(remaining.variants)) {
        finish(failed_outcome(job, variant, *failure));
      }
      continue;
    }
    const std::string& name = job_now.variants.at(static_cast<size_t>(at_work));
    const bool has_row =
        std::find(remaining.variants.begin(), remaining.variants.end(), name) == remaining.variants.end();
    if (failure->device_lost && has_row) continue;  // a new process has the device again
    finish(failed_outcome(job, name, *failure));
  }
  return steps;
}

}  // namespace attn
