#pragma once
// One file per subcommand. A file ends with ATTN_COMMAND(order, add), where `add` attaches a CLI11 subcommand
// whose callback does the work: it throws UsageError for a user's mistake (one line, exit code 2), any other
// exception for a failure (exit code 1), or sets `exit_code`.

#include <CLI/CLI.hpp>

namespace attn {

using AddCommand = void (*)(CLI::App& app, int& exit_code);

/// `order` is the place in the help, of one command alone: which file registers first is the linker's choice.
bool register_command(int order, AddCommand add);

}  // namespace attn

#define ATTN_COMMAND(order, add) \
  static const bool attn_registered_##add = ::attn::register_command(order, add)
