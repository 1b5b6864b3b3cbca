// attnbench report DIR: fits, figures and the HTML report of a campaign.

#include "harness/analysis/report.h"

#include <fmt/format.h>

#include "harness/analysis/analysis.h"
#include "harness/cli/command.h"

namespace attn {
namespace {

void add_report(CLI::App& app, int&) {
  CLI::App* command =
      app.add_subcommand("report", "Draws the figures of a campaign and writes its report.html; fits first.");
  command->footer(
      "Figures need a Python with matplotlib, pandas, SciPy and Jinja2; ATTNBENCH_PYTHON names one.");
  static std::string dir;
  command->add_option("dir", dir, "Folder of a campaign.")->required()->type_name("DIR");
  command->callback([] {
    const std::vector<std::string> telling = write_analysis(dir);
    const std::string report = run_report(dir);
    for (const std::string& sentence : telling) fmt::print("- {}\n", sentence);
    fmt::print("report: {}\n", report);
  });
}

ATTN_COMMAND(61, add_report);

}  // namespace
}  // namespace attn
