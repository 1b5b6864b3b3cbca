// attnbench env: where and with what this program would measure.

#include <fmt/format.h>

#include <memory>

#include "harness/cli/command.h"
#include "harness/measure/environment.h"
#include "harness/problem/error.h"

namespace attn {
namespace {

struct EnvArguments {
  std::string format = "text";
};

/// `a.b.c   value` lines, arrays by number.
void print_lines(const nlohmann::json& json, const std::string& path) {
  if (!json.is_structured()) {
    const std::string value = json.is_null() ? "-" : json.is_string() ? json.get<std::string>() : json.dump();
    return fmt::print("{:<34} {}\n", path, value);
  }
  for (const auto& [key, value] : json.items()) print_lines(value, path.empty() ? key : path + "." + key);
}

void run_env(const EnvArguments& arguments) {
  const nlohmann::json environment = describe_environment();
  if (arguments.format == "json") return fmt::print("{}\n", environment.dump(2));
  print_lines(environment, "");
}

void add_env(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand(
      "env", "Prints the machine, compiler and libraries, as environment.json records them.");
  auto arguments = std::make_shared<EnvArguments>();
  command->add_option("--format", arguments->format, "How to print: text or json. Default: text.")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"text", "json"}));
  command->callback([arguments] { run_env(*arguments); });
}

ATTN_COMMAND(56, add_env);

}  // namespace
}  // namespace attn
