// attnbench table DIR: a campaign as the tables of a paper.

#include <fmt/format.h>

#include <memory>

#include "harness/cli/command.h"
#include "harness/paper/format.h"
#include "harness/problem/error.h"

namespace attn {
namespace {

struct TableArguments {
  std::string dir, format = "markdown", what = "all";
};

std::vector<PaperTable> tables_of(const TableArguments& arguments) {
  const CampaignData campaign = read_campaign(arguments.dir);
  std::vector<PaperTable> tables;
  const auto wanted = [&](const char* name) { return arguments.what == "all" || arguments.what == name; };
  if (wanted("time")) tables.push_back(time_table(campaign));
  if (wanted("memory")) tables.push_back(memory_table(campaign));
  if (wanted("exponents")) tables.push_back(exponent_table(analyse(campaign)));
  return tables;
}

void run_table(const TableArguments& arguments) {
  if (arguments.format == "csv" && arguments.what == "all") {
    throw UsageError("table: one CSV file holds one table: give --what time, memory or exponents");
  }
  for (const PaperTable& table : tables_of(arguments)) {
    fmt::print("{}", arguments.format == "latex"      ? to_latex(table)
                     : arguments.format == "markdown" ? to_markdown(table)
                                                      : to_csv(table));
  }
}

void add_table(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("table", "Prints a campaign as the tables of a paper.");
  command->footer("LaTeX needs the packages booktabs and siunitx.");
  auto arguments = std::make_shared<TableArguments>();
  command->add_option("dir", arguments->dir, "Folder of a campaign.")->required()->type_name("DIR");
  command
      ->add_option("--format", arguments->format, "How to print: latex, markdown or csv. Default: markdown.")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"latex", "markdown", "csv"}));
  command
      ->add_option("--what", arguments->what,
                   "Which tables: time (ms, with intervals), memory (MiB), exponents or all. Default: all.")
      ->type_name("TABLE")
      ->check(CLI::IsMember({"time", "memory", "exponents", "all"}));
  command->callback([arguments] { run_table(*arguments); });
}

ATTN_COMMAND(63, add_table);

}  // namespace
}  // namespace attn
