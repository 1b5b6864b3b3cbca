#pragma once
// One worker as a child process, with its pipe and its board.

#include <sys/types.h>

#include <string>
#include <vector>

#include "harness/campaign/protocol.h"

namespace attn {

class WorkerProcess {
 public:
  /// Executes this program again as `worker` with the job on standard input. Throws std::runtime_error.
  explicit WorkerProcess(const Job& job);
  WorkerProcess(const WorkerProcess&) = delete;
  /// Kills what is left of the group.
  ~WorkerProcess();

  int descriptor() const { return pipe_; }
  /// Complete lines that have arrived; does not wait.
  std::vector<std::string> read_lines();
  /// Every process that could write has closed its end.
  bool closed() const { return closed_; }
  /// The worker itself has ended; what it started may live on and hold the pipe open.
  bool ended();
  const Board& board() const { return *board_; }
  void kill_group();
  /// Wait status of the ended worker.
  int wait();

 private:
  pid_t process_ = -1;
  int pipe_ = -1;
  bool closed_ = false;
  bool ended_ = false;
  int status_ = 0;
  std::string pending_;
  Board* board_ = nullptr;
};

}  // namespace attn
