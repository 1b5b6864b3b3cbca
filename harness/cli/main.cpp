// The program: every subcommand registers itself (command.h). The name of a preset is short for
// `sweep --preset NAME`.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "harness/cli/command.h"
#include "harness/problem/error.h"

namespace attn {
namespace {

const std::filesystem::path kPresetFolder = std::filesystem::path(ATTN_SOURCE_DIR) / "harness/presets";

std::multimap<int, AddCommand>& commands() {
  static std::multimap<int, AddCommand> instance;
  return instance;
}

bool is_preset(const std::string& word) {
  const bool plain = word.find_first_of("/.") == std::string::npos;
  return plain && std::filesystem::exists(kPresetFolder / (word + ".toml"));
}

std::vector<std::string> preset_names() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(kPresetFolder)) {
    if (entry.path().extension() == ".toml") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

/// The short forms `quick` (a preset) and `help COMMAND`, written out.
std::vector<std::string> expanded(std::vector<std::string> words) {
  if (words.empty()) return {"--help"};
  if (words.front() == "help") {
    words.erase(words.begin());
    words.push_back("--help");
  } else if (is_preset(words.front())) {
    words.insert(words.begin(), {"sweep", "--preset"});
  }
  return words;
}

/// CLI11 would only say that a subcommand is required.
void require_known_command(const CLI::App& app, const std::string& word) {
  if (word.starts_with("-")) return;
  std::string names;
  for (const CLI::App* command : app.get_subcommands([](const CLI::App*) { return true; })) {
    if (command->get_name() == word) return;
    if (!command->get_group().empty()) names += command->get_name() + ", ";  // hidden ones have no group
  }
  throw UsageError(fmt::format("'{}' is not a command: use {}help or the name of a preset ({})", word, names,
                               fmt::join(preset_names(), ", ")));
}

/// Whatever a message quotes, it stays one line that does no harm to a terminal.
void print_error(std::string text) {
  constexpr size_t kEnd = 1000;
  if (text.size() > 2 * kEnd) text = text.substr(0, kEnd) + " ... " + text.substr(text.size() - kEnd);
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c == '\n' || c == '\t'; }, ' ');
  std::replace_if(
      text.begin(), text.end(), [](unsigned char c) { return c < ' ' || c == 127; }, '?');
  fmt::print(stderr, "attnbench: {}\n", text);
}

int run(std::vector<std::string> words) {
  CLI::App app{"attnbench: benchmarks and compares implementations of multi-head attention", "attnbench"};
  app.require_subcommand(1);
  app.set_version_flag("--version", ATTN_VERSION, "Print the version and exit");
  int exit_code = 0;
  for (const auto& [order, add] : commands()) add(app, exit_code);
  app.footer(
      "`attnbench help COMMAND` explains a command. The name of a preset is a command too: `attnbench quick` "
      "is "
      "`attnbench sweep --preset quick`.");
  const std::string command = words.front();
  require_known_command(app, command);
  std::reverse(words.begin(), words.end());  // as CLI11 wants them
  try {
    app.parse(std::move(words));
  } catch (const CLI::Success& help) {
    return app.exit(help);
  } catch (const CLI::ParseError& error) {
    const std::string help = command.starts_with("-") ? "" : command + " ";
    throw UsageError(fmt::format("{} (attnbench {}--help lists what is accepted)", error.what(), help));
  }
  return exit_code;
}

}  // namespace

bool register_command(int order, AddCommand add) {
  commands().emplace(order, add);
  return true;
}

}  // namespace attn

int main(int argc, char** argv) {
  try {
    return attn::run(attn::expanded({argv + 1, argv + argc}));
  } catch (const attn::UsageError& error) {
    attn::print_error(error.what());
    return 2;
  } catch (const std::exception& error) {
    attn::print_error(error.what());
    return 1;
  }
}
