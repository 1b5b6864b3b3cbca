// Tables and figures for papers: escaping, digits, what stands where.

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <sstream>

#include "harness/paper/format.h"
#include "harness/paper/pgfplots.h"
#include "harness/results/csv.h"
#include "tests/catch.h"
#include "tests/scratch_folder.h"

using namespace attn;

namespace {

CampaignData campaign() {
  CampaignData data;
  for (const int64_t n : {128, 256, 512, 1024}) {
    for (const char* variant : {"fused_1/cpu", "stored/cpu"}) {
      ResultRow row;
      row.variant = variant;
      row.problem = fmt::format(
          "b=1,hq=8,hk=8,nq={0},nk={0},d=64,dv=64,dtype=f32,pass=fwd,mask=padding:75%,pos=none", n);
      row.point = row.problem;
      row.heads_q = row.heads_kv = 8;
      row.seq_q = row.seq_kv = n;
      row.d_head = row.d_value = 64;
      row.threads = 2;
      row.status = Status::ok;
      row.time_s_median = 1.2345e-8 * static_cast<double>(n * n);
      row.time_s_ci_low = *row.time_s_median * 0.9;
      row.time_s_ci_high = *row.time_s_median * 1.1;
      row.memory_operands_bytes = 1 << 20;
      row.memory_workspace_peak_bytes = row.memory_workspace_planned_bytes = 0;
      row.flops_executed = static_cast<double>(n * n);
      data.rows.push_back(row);
    }
  }
  data.rows.back().status = Status::out_of_memory;
  data.rows.back().time_s_median.reset();
  return data;
}

std::string content(const std::string& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

}  // namespace

TEST_CASE("LaTeX's own characters are escaped") {
  CHECK(latex_escaped("a_b & 75% #1 {x} ~^\\$") ==
        "a\\_b \\& 75\\% \\#1 \\{x\\} \\textasciitilde{}\\textasciicircum{}\\textbackslash{}\\$");
}

TEST_CASE("numbers have four digits and no exponent") {
  CHECK(four_digits(0.00012347) == "0.0001235");
  CHECK(four_digits(1.5) == "1.500");
  CHECK(four_digits(12345.678) == "12346");
  CHECK(four_digits(2048) == "2048");
  CHECK(four_digits(0) == "0");
}

TEST_CASE("a LaTeX table is balanced, escaped and names what failed") {
  const std::string text = to_latex(time_table(campaign()));
  CHECK(text.find("mask=padding:75\\%") != std::string::npos);
  CHECK(text.find("{fused\\_1/cpu (ms)}") != std::string::npos);
  CHECK(text.find("{out of memory}") != std::string::npos);
  CHECK(text.find("0.8090 & {\\footnotesize [0.7281, 0.8899]}") != std::string::npos);
  CHECK(text.find("\\toprule") < text.find("\\midrule"));
  // As many cells in every row as the column types say: n, h, d, and two for each variant.
  std::istringstream lines(text);
  int rows = 0;
  for (std::string line; std::getline(lines, line);) {
    if (!line.ends_with("\\\\") || line.find("multicolumn") != std::string::npos) continue;
    CHECK(std::count(line.begin(), line.end(), '&') == 6);
    ++rows;
  }
  CHECK(rows == 4);
}

TEST_CASE("Markdown and CSV hold the same rows") {
  const PaperTable table = time_table(campaign());
  const std::string markdown = to_markdown(table);
  CHECK(markdown.find("| 256 | 8 | 64 | 0.8090 [0.7281, 0.8899] |") != std::string::npos);
  std::istringstream csv(to_csv(table));
  std::string line;
  size_t rows = 0, columns = 0;
  for (; std::getline(csv, line); ++rows) {
    const size_t fields = split_csv_record(line, "csv").size();
    if (rows == 0) columns = fields;
    CHECK(fields == columns);
  }
  CHECK(rows == 5);
  CHECK(columns == 12);
  CHECK(to_csv(memory_table(campaign())).find("stored/cpu_MiB") != std::string::npos);
  CHECK(to_markdown(exponent_table(analyse(campaign()))).find("| n | time | fused_1/cpu | 128 to 1024 | 2") !=
        std::string::npos);
}

TEST_CASE("figures for pgfplots read their data files") {
  const ScratchFolder folder;
  const std::vector<std::string> paths = export_pgfplots(campaign(), folder.path() + "/figures");
  REQUIRE(paths.size() == 2);
  const std::string tex = content(paths.front());
  CHECK(paths.front().ends_with("/figures/time_vs_n.tex"));
  CHECK(tex.find("{time_vs_n_1.dat}") != std::string::npos);
  CHECK(tex.find("\\addlegendentry{fused\\_1/cpu}") != std::string::npos);
  CHECK(tex.find("\\end{document}") != std::string::npos);
  std::istringstream data(content(folder.path() + "/figures/time_vs_n_1.dat"));
  std::string header, last;
  std::getline(data, header);
  CHECK(header == "x y1 minus1 plus1 y2 minus2 plus2");
  while (std::getline(data, header)) last = header;
  CHECK(last.starts_with("1024 "));
  CHECK(last.ends_with(" nan nan nan"));
}
