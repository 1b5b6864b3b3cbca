#pragma once
// The Python process of FlexAttention: commands and answers are lines of JSON, tensors lie in a file in
// memory that both map.

#include <sys/types.h>

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

namespace attn {

class FlexProcess {
 public:
  /// Starts flex_worker.py; throws std::runtime_error where that fails.
  explicit FlexProcess(const std::string& device);
  FlexProcess(const FlexProcess&) = delete;
  ~FlexProcess();

  /// The value of "ok"; throws std::runtime_error with what the worker says, or that it has ended.
  nlohmann::json ask(const nlohmann::json& command);
  /// The file's memory, with room for so many bytes; an earlier address may be void after that.
  std::byte* memory(size_t bytes);

 private:
  std::string read_line();

  pid_t process_ = 0;
  int socket_ = -1, file_ = -1;
  std::byte* mapped_ = nullptr;
  size_t mapped_bytes_ = 0;
  std::string pending_;
};

}  // namespace attn
