// attnbench worker: the child process of sweep; not for people, so not in the help.

#include "harness/campaign/worker.h"

#include "harness/cli/command.h"

namespace attn {
namespace {

void add_worker(CLI::App& app, int& exit_code) {
  CLI::App* command = app.add_subcommand("worker", "");
  command->group("");  // hidden
  command->callback([&exit_code] { exit_code = run_worker(); });
}

ATTN_COMMAND(100, add_worker);

}  // namespace
}  // namespace attn
