#include "harness/cli/finish.h"

#include <fmt/format.h>

#include <filesystem>
#include <vector>

#include "harness/analysis/analysis.h"
#include "harness/analysis/report.h"

namespace attn {

int finish(const std::string& folder, bool wants_report) {
  const std::vector<std::string> telling = write_analysis(folder);
  int exit_code = 0;
  std::string report = "not wanted";
  if (wants_report) {
    try {
      report = run_report(folder);
    } catch (const std::exception& error) {  // the measurements are complete all the same
      report = "failed";
      fmt::print(stderr, "attnbench: {}\n", error.what());
      exit_code = 1;
    }
  }
  fmt::print(
      "\nrows:    {0}/results.csv\nsamples: {0}/samples.csv\nfits:    {0}/fits.csv, {0}/slopes.csv, "
      "{0}/crossovers.csv, {0}/frontier.csv\n",
      folder);
  if (std::filesystem::exists(folder + "/terms.csv")) fmt::print("terms:   {}/terms.csv\n", folder);
  fmt::print("machine: {}/environment.json\n", folder);
  if (wants_report && exit_code == 0) fmt::print("figures: {}/figures\n", folder);
  fmt::print("report:  {}\n", report);
  for (const std::string& line : telling) fmt::print("- {}\n", line);
  return exit_code;
}

}  // namespace attn
