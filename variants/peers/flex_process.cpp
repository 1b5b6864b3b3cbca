#include "variants/peers/flex_process.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <stdexcept>

namespace attn {
namespace {

[[noreturn]] void fail(const char* call) {
  throw std::runtime_error(std::string("FlexAttention's process: ") + call + ": " + std::strerror(errno));
}

}  // namespace

FlexProcess::FlexProcess(const std::string& device) {
  int ends[2];  // a socket rather than pipes: writing to a dead worker is then an error and no signal
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0) fail("socketpair");
  file_ = memfd_create("flex", MFD_CLOEXEC);
  if (file_ < 0) fail("memfd_create");
  constexpr int kInherited = 3;  // in the child
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  const int file =
      fcntl(file_, F_DUPFD_CLOEXEC, 10);  // above the child's number: a dup2 onto itself is no copy
  posix_spawn_file_actions_adddup2(&actions, file, kInherited);
  const std::string descriptor = std::to_string(kInherited);
  const char* const arguments[] = {ATTN_FLEX_PYTHON, ATTN_FLEX_SCRIPT, device.c_str(), descriptor.c_str(),
                                   nullptr};
  const int error =
      posix_spawn(&process_, arguments[0], &actions, nullptr, const_cast<char**>(arguments), environ);
  posix_spawn_file_actions_destroy(&actions);
  for (int used : {ends[1], file}) close(used);
  socket_ = ends[0];
  if (error != 0) {
    errno = error;
    fail("posix_spawn");
  }
}

/// The worker ends by itself where its input does, also when this process dies.
FlexProcess::~FlexProcess() {
  close(socket_);
  kill(process_, SIGKILL);
  waitpid(process_, nullptr, 0);
  if (mapped_) munmap(mapped_, mapped_bytes_);
  close(file_);
}

nlohmann::json FlexProcess::ask(const nlohmann::json& command) {
  const std::string line = command.dump() + "\n";
  for (size_t sent = 0; sent < line.size();) {
    const ssize_t count = send(socket_, line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) fail("it has ended");
    sent += static_cast<size_t>(count);
  }
  const auto answer = nlohmann::json::parse(read_line());
  if (answer.contains("error"))
    throw std::runtime_error("FlexAttention: " + answer["error"].get<std::string>());
  return answer.at("ok");
}

std::string FlexProcess::read_line() {
  size_t end;
  while ((end = pending_.find('\n')) == std::string::npos) {
    char buffer[4096];
    const ssize_t count = read(socket_, buffer, sizeof buffer);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) throw std::runtime_error("FlexAttention's process has ended: its last words are above");
    pending_.append(buffer, static_cast<size_t>(count));
  }
  const std::string line = pending_.substr(0, end);
  pending_.erase(0, end + 1);
  return line;
}

std::byte* FlexProcess::memory(size_t bytes) {
  if (bytes <= mapped_bytes_) return mapped_;
  if (mapped_) munmap(mapped_, mapped_bytes_);
  mapped_ = nullptr;
  mapped_bytes_ = 0;
  if (ftruncate(file_, static_cast<off_t>(bytes)) < 0) fail("ftruncate");
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file_, 0);
  if (memory == MAP_FAILED) fail("mmap");
  mapped_ = static_cast<std::byte*>(memory);
  mapped_bytes_ = bytes;
  return mapped_;
}

}  // namespace attn
