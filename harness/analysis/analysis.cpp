#include "harness/analysis/analysis.h"

#include <fmt/format.h>

#include <filesystem>

#include "harness/analysis/summary.h"
#include "harness/analysis/table.h"
#include "harness/problem/error.h"
#include "harness/results/append_file.h"

namespace attn {

Analysis analyse(const std::string& dir) {
  const std::filesystem::path folder(dir);
  if (!std::filesystem::exists(folder / "results.csv")) {
    throw UsageError(fmt::format("{}: no results.csv here; expected the folder of a campaign", dir));
  }
  const std::vector<ResultRow> rows = read_results(folder / "results.csv");
  const bool raw = std::filesystem::exists(folder / "samples.csv");
  const SampleIndex samples = raw ? index_samples(read_samples(folder / "samples.csv")) : SampleIndex{};
  const std::vector<Series> sweeps = group_series(rows, samples);
  Analysis analysis;
  analysis.fits = fit_all(sweeps);
  analysis.crossovers = find_crossovers(sweeps);
  analysis.telling = telling_numbers(rows, analysis.fits, analysis.crossovers);
  return analysis;
}

void write_tables(const Analysis& analysis, const std::string& dir) {
  const std::filesystem::path folder(dir);
  replace_file(folder / "fits.csv", table_of(analysis.fits).csv());
  replace_file(folder / "crossovers.csv", table_of(analysis.crossovers).csv());
}

std::vector<std::string> write_analysis(const std::string& dir) {
  const Analysis analysis = analyse(dir);
  write_tables(analysis, dir);
  return analysis.telling;
}

}  // namespace attn
