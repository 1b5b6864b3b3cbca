#include "harness/campaign/worker_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <new>
#include <stdexcept>

namespace attn {
namespace {

int check(int result, const char* call) {
  if (result < 0) throw std::runtime_error(fmt::format("{}: {}", call, std::strerror(errno)));
  return result;
}

/// A file in memory; closed on exec.
int memory_file(const char* name, std::string_view content) {
  const int descriptor = check(memfd_create(name, MFD_CLOEXEC), "memfd_create");
  if (static_cast<size_t>(check(static_cast<int>(write(descriptor, content.data(), content.size())),
                                "write")) != content.size()) {
    throw std::runtime_error("memory file: short write");
  }
  check(static_cast<int>(lseek(descriptor, 0, SEEK_SET)), "lseek");
  return descriptor;
}

struct ChildDescriptors {
  int job, outcomes, board;
};

/// In the child: only system calls until exec, because the parent may have threads.
[[noreturn]] void become_worker(const ChildDescriptors& from, pid_t parent) {
  setpgid(0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (getppid() != parent) _exit(1);  // the parent ended before prctl
  const rlimit no_core{0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  dup2(from.job, STDIN_FILENO);
  dup2(STDERR_FILENO, STDOUT_FILENO);  // what a variant prints stays out of the program's own output
  // First above both targets, so that neither overwrites the other's source; dup2 clears close-on-exec.
  const int outcomes = fcntl(from.outcomes, F_DUPFD, 10), board = fcntl(from.board, F_DUPFD, 10);
  dup2(outcomes, kOutcomeDescriptor);
  dup2(board, kBoardDescriptor);
  close(outcomes);
  close(board);
  char program[] = "attnbench", command[] = "worker";
  char* const arguments[] = {program, command, nullptr};
  execv("/proc/self/exe", arguments);
  _exit(127);
}

}  // namespace

WorkerProcess::WorkerProcess(const Job& job) {
  int ends[2];
  check(pipe2(ends, O_CLOEXEC), "pipe2");
  const int job_file = memory_file("job", job.to_text());
  const int board_file = memory_file("board", std::string(sizeof(Board), '\0'));
  void* page = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, board_file, 0);
  if (page == MAP_FAILED) throw std::runtime_error("mmap of the board failed");
  board_ = new (page) Board;
  board_->announce(Board::kNoVariant, Step::inputs);
  pipe_ = ends[0];
  fcntl(pipe_, F_SETFL, O_NONBLOCK);
  const pid_t parent = getpid();
  process_ = check(fork(), "fork");
  if (process_ == 0) become_worker({job_file, ends[1], board_file}, parent);
  setpgid(process_, process_);  // both sides, whoever runs first
  close(ends[1]);
  close(job_file);
  close(board_file);
}

WorkerProcess::~WorkerProcess() {
  if (process_ > 0 && !ended_) {
    kill_group();
    wait();
  }
  if (pipe_ >= 0) close(pipe_);
  if (board_) munmap(board_, sizeof(Board));
}

std::vector<std::string> WorkerProcess::read_lines() {
  char buffer[1 << 16];
  for (;;) {
    const ssize_t count = read(pipe_, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0 && errno == EAGAIN) break;
    if (check(static_cast<int>(count), "read") == 0) {
      closed_ = true;
      break;
    }
    pending_.append(buffer, static_cast<size_t>(count));
  }
  std::vector<std::string> lines;
  size_t begin = 0;
  for (size_t end; (end = pending_.find('\n', begin)) != std::string::npos; begin = end + 1) {
    lines.push_back(pending_.substr(begin, end - begin));
  }
  pending_.erase(0, begin);
  return lines;
}

bool WorkerProcess::ended() {
  if (!ended_ && waitpid(process_, &status_, WNOHANG) == process_) ended_ = true;
  return ended_;
}

void WorkerProcess::kill_group() { kill(-process_, SIGKILL); }

int WorkerProcess::wait() {
  while (!ended_) {
    if (waitpid(process_, &status_, 0) >= 0 || errno != EINTR) ended_ = true;
  }
  kill(-process_, SIGKILL);  // whatever the worker has started itself
  return status_;
}

}  // namespace attn
