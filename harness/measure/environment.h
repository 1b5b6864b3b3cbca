#pragma once
// Where and with what a campaign was measured: environment.json.

#include <nlohmann/json.hpp>
#include <string>

namespace attn {

/// CPUs this process may run on.
int available_threads();

/// Machine, compiler, libraries, commit; what cannot be read is null.
nlohmann::json describe_environment();
/// Clock, power and temperature of the GPU now; null without one, or without NVML.
nlohmann::json gpu_state();
/// Commit of the source the program was built from, "+changes" behind it where the tree differed.
std::string build_commit();
/// As the kernel names it.
std::string cpu_model();
/// Of this host: Slurm's name of the node inside a job, else the host name.
std::string node_name();
/// Now, UTC, ISO 8601.
std::string timestamp();

}  // namespace attn
