#pragma once
// Runs jobs in worker processes and turns whatever happens to a worker into rows. A worker is this very
// program, executed again, in a process group of its own; it dies with the supervisor.

#include <functional>
#include <string>

#include "harness/campaign/protocol.h"

namespace attn {

/// Thrown where a signal asked the program to stop.
struct Interrupted {
  int signal;
};

/// While it lives SIGINT and SIGTERM set `caught()` instead of ending the program.
class SignalWatch {
 public:
  SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  ~SignalWatch();
  static int caught();  ///< 0: none so far
};

/// Runs a job to its end: every variant of it yields exactly one outcome. A variant that crashes, hangs
/// longer than `timeout_s` in one step, or exhausts memory gets a row that says so, and the rest is measured
/// without it. Returns what the workers' steps took. Throws Interrupted, the worker stopped.
StepTimes supervise(const Job& job, double timeout_s, const std::function<void(const Outcome&)>& emit);

}  // namespace attn
