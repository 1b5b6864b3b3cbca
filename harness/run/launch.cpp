#include "harness/run/launch.h"

#include "harness/problem/error.h"

namespace attn {

std::string to_text(LaunchMode mode) { return mode == LaunchMode::stream ? "stream" : "graph"; }

LaunchMode parse_launch(std::string_view text) {
  for (const LaunchMode mode : {LaunchMode::stream, LaunchMode::graph}) {
    if (text == to_text(mode)) return mode;
  }
  throw UsageError("--launch '" + std::string(text) + "' is unknown: use stream or graph");
}

std::string launch_option(LaunchMode mode) { return mode == LaunchMode::graph ? " --launch graph" : ""; }

std::string thrown_by(const std::function<void()>& work) {
  try {
    work();
    return "";
  } catch (const std::exception& error) {
    return error.what();
  } catch (...) {
    return "an exception of an unknown type";
  }
}

}  // namespace attn
