#pragma once
// How calls of a GPU variant get to the device: one by one into a stream, or as replays of a CUDA graph that
// was captured from one call.

#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>

namespace attn {

enum class LaunchMode { stream, graph };
std::string to_text(LaunchMode mode);
LaunchMode parse_launch(std::string_view text);  // throws UsageError
/// What a command that runs something again adds to its line; nothing for the default.
std::string launch_option(LaunchMode mode);

/// Why work cannot be captured, as one line; becomes the status unsupported.
struct CannotCapture : std::runtime_error {
  explicit CannotCapture(const std::string& why) : std::runtime_error("cannot be captured: " + why) {}
};

/// Reasons that every device gives in the same words.
inline constexpr const char* kNoGraphs = "a CPU has no graphs";
inline constexpr const char* kCapturesNothing = "enqueues nothing on the stream";
inline constexpr const char* kCapturesUnjoined = "enqueues on another stream that is not joined again";
inline constexpr const char* kCapturesForbidden = "waits for the stream, or does what else a capture forbids";
inline constexpr const char* kCapturesAllocation = "allocates device memory in a call";
inline constexpr const char* kCapturesPageable =
    "copies from memory of the host that is not pinned: a replay would read it when the call has returned";

/// Work captured from a stream. Everything that it reads and writes must outlive it.
class DeviceGraph {
 public:
  DeviceGraph() = default;
  DeviceGraph(const DeviceGraph&) = delete;
  virtual ~DeviceGraph() = default;
  /// Enqueues the whole of it, on the stream of the capture.
  virtual void launch() = 0;
};

/// Of a command that asks for graphs where none can be.
inline constexpr const char* kGraphsNeedGpu =
    "--launch graph needs a variant of a GPU, a CPU has no graphs: use --launch stream";

/// What `work` throws while it is captured, as text; empty where it throws nothing.
std::string thrown_by(const std::function<void()>& work);

}  // namespace attn
