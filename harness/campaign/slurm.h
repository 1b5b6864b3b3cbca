#pragma once
// A campaign as a job array of Slurm: one shard a task, a whole node a task. The tasks and this process meet
// in a folder that all nodes see.

#include <string>
#include <vector>

namespace attn {

struct SlurmJob {
  std::string folder;                   ///< absolute
  int shards = 1;                       ///< tasks of the array
  std::vector<std::string> words;       ///< the program and the sweep's options, without share and folder
  std::vector<std::string> directives;  ///< further options for sbatch
};

/// The script for sbatch. A task that is requeued, as after the death of its node, resumes its shard.
std::string slurm_script(const SlurmJob& job);

/// Writes FOLDER/slurm.sh and submits it; FOLDER/slurm.job keeps the id. An array that the file names and
/// that still runs is taken instead of a second one. Returns the id. Throws std::runtime_error with what
/// sbatch says.
std::string submit_or_find(const SlurmJob& job);

/// Waits until no task of the job is pending or running, and prints how many are whenever that changes.
/// Returns 0, or 128 + the signal that ended the waiting; the job then goes on.
int wait_for_job(const std::string& id);

}  // namespace attn
