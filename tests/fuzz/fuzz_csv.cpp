// results.csv and samples.csv: behind a good header, and as they are. A row that is accepted reads back as
// itself.

#include "harness/results/csv.h"
#include "harness/results/schema.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace attn;
  static MemoryFile file;
  file.hold(data, size);
  accepts([&] { read_results(file.path); });
  accepts([&] { read_samples(file.path); });
  for (std::string_view line : read_complete_lines(file.path).lines) {
    ResultRow row;
    if (!accepts([&] { row = result_from_csv(line, "row"); })) continue;
    const std::string written = to_csv(row);
    require(to_csv(result_from_csv(std::string_view(written).substr(0, written.size() - 1), "row")) ==
            written);
  }
  return 0;
}
