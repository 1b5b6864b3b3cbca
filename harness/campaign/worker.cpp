#include "harness/campaign/worker.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <iostream>
#include <iterator>
#include <new>

#include "harness/campaign/point.h"
#include "harness/problem/error.h"

namespace attn {
namespace {

Board& map_board() {
  void* page = mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, kBoardDescriptor, 0);
  if (page == MAP_FAILED) throw UsageError("worker is started by sweep, not by hand");
  return *static_cast<Board*>(page);
}

void write_line(const std::string& line) {
  for (size_t done = 0; done < line.size();) {
    const ssize_t written = ::write(kOutcomeDescriptor, line.data() + done, line.size() - done);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) throw std::runtime_error("the supervisor is gone");
    done += static_cast<size_t>(written);
  }
}

}  // namespace

int run_worker() {
  Board& board = map_board();
  const std::string text{std::istreambuf_iterator<char>(std::cin), {}};
  const Job job = Job::parse(text);
  try {
    run_point(job, board, [](const Outcome& outcome) { write_line(outcome.to_line()); });
  } catch (const std::bad_alloc&) {
    return kExitOutOfMemory;
  } catch (const DeviceLost&) {
    return kExitDeviceLost;
  }
  return 0;
}

}  // namespace attn
