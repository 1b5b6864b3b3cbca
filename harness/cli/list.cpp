// attnbench list: the variants and what they support, found by asking each about a set of probe problems.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>

#include "harness/cli/command.h"
#include "harness/problem/error.h"
#include "harness/registry.h"
#include "harness/results/csv.h"
#include "harness/run/binding.h"

namespace attn {
namespace {

struct ListArguments {
  std::string format = "table";
  std::string variants = ".";
};

struct Feature {
  const char* name;
  const char* problem;  ///< small, plain in everything else
};

constexpr Feature kMasks[] = {{"none", "hq=2,nq=64,d=16"},
                              {"causal", "hq=2,nq=64,d=16,mask=causal"},
                              {"window", "hq=2,nq=64,d=16,mask=window:8:8"},
                              {"padding", "hq=2,nq=64,d=16,mask=padding:50%"},
                              {"document", "hq=2,nq=64,d=16,mask=document:40/9"},
                              {"window+padding", "hq=2,nq=64,d=16,mask=window:8:8+padding:50%"}};
constexpr Feature kPositions[] = {{"none", "hq=2,nq=64,d=16"},
                                  {"shaw", "hq=2,nq=64,d=16,pos=shaw:4"},
                                  {"shaw-keys", "hq=2,nq=64,d=16,pos=shaw-keys:4"},
                                  {"alibi", "hq=2,nq=64,d=16,pos=alibi"},
                                  {"t5", "hq=2,nq=64,d=16,pos=t5:8:32"},
                                  {"t5-causal", "hq=2,nq=64,d=16,pos=t5-causal:8:32"},
                                  {"rope", "hq=2,nq=64,d=16,pos=rope:10000"},
                                  {"rope-interleaved", "hq=2,nq=64,d=16,pos=rope-interleaved:10000"}};
constexpr Feature kDtypes[] = {{"f32", "hq=2,nq=64,d=16,dtype=f32"},
                               {"bf16", "hq=2,nq=64,d=16,dtype=bf16"},
                               {"f16", "hq=2,nq=64,d=16,dtype=f16"}};
constexpr Feature kPasses[] = {{"fwd", "hq=2,nq=64,d=16"}, {"bwd", "hq=2,nq=64,d=16,pass=bwd"}};
constexpr Feature kShapes[] = {
    {"gqa", "hq=4,hk=2,nq=64,d=16"},   {"cross", "hq=2,nq=64,nk=96,d=16"},
    {"odd", "hq=3,nq=61,d=17,dv=5"},   {"softcap", "hq=2,nq=64,d=16,softcap=30"},
    {"wide head", "hq=2,nq=64,d=512"}, {"block scope", "hq=2,nq=64,d=16,scope=block"}};

/// A variant is asked even where its device is absent; the block around it is the harness's.
bool accepts(const Variant& variant, const Problem& problem) {
  if (problem.scope == Scope::block && !block_supports(variant, problem)) return false;
  return static_cast<bool>(variant.supports(problem.with(Scope::core)));
}

/// A sparse variant may refuse whatever has no mask: then the feature is tried on a causal problem.
bool accepts(const Variant& variant, const Feature& feature) {
  Problem problem = Problem::parse(feature.problem);
  if (accepts(variant, problem)) return true;
  const bool about_the_mask = &feature == &kMasks[0];
  if (about_the_mask || !problem.mask.none()) return false;
  problem.mask = Mask::parse("causal");
  return accepts(variant, problem);
}

template <size_t kCount>
std::string supported(const Variant& variant, const Feature (&features)[kCount]) {
  std::vector<std::string> names;
  for (const Feature& feature : features) {
    if (accepts(variant, feature)) names.push_back(feature.name);
  }
  if (names.size() == kCount && kCount > 2) return "all";
  return names.empty() ? "-" : fmt::format("{}", fmt::join(names, " "));
}

using Row = std::vector<std::string>;

const Row kHeader = {"name",   "family", "device", "fidelity",  "tags",    "masks",   "positions",
                     "dtypes", "passes", "shapes", "available", "version", "citation"};

Row describe(const Variant& variant) {
  const Info& info = variant.info();
  const std::string missing = device_missing(info.device);
  return {info.name,
          info.family,
          info.device == Device::cpu ? "cpu" : "cuda",
          info.fidelity == Fidelity::exact ? "exact" : "approximate",
          fmt::format("{}", fmt::join(info.tags, " ")),
          supported(variant, kMasks),
          supported(variant, kPositions),
          supported(variant, kDtypes),
          supported(variant, kPasses),
          supported(variant, kShapes),
          missing.empty() ? "yes" : missing,
          info.version,
          info.citation};
}

void print_csv(const std::vector<Row>& rows) {
  for (const Row& row : rows) {
    std::string line;
    for (size_t k = 0; k < row.size(); ++k) {
      if (k > 0) line += ',';
      append_csv_field(line, row[k]);
    }
    fmt::print("{}\n", line);
  }
}

/// A block of lines per variant: a table of thirteen columns fits no terminal.
void print_table(const std::vector<Row>& rows) {
  for (size_t r = 1; r < rows.size(); ++r) {
    fmt::print("{}\n", rows[r][0]);
    for (size_t k = 1; k < rows[r].size(); ++k) {
      if (!rows[r][k].empty()) fmt::print("  {:<10} {}\n", rows[0][k], rows[r][k]);
    }
  }
}

void run_list(const ListArguments& arguments) {
  std::vector<Row> rows = {kHeader};
  for (const Variant* variant : select_variants(arguments.variants)) rows.push_back(describe(*variant));
  if (arguments.format == "csv") return print_csv(rows);
  print_table(rows);
}

void add_list(CLI::App& app, int&) {
  CLI::App* command =
      app.add_subcommand("list", "Lists the variants: name, family, device, what each supports.");
  auto arguments = std::make_shared<ListArguments>();
  command->add_option("--format", arguments->format, "How to print: table or csv. Default: table.")
      ->type_name("FORMAT")
      ->check(CLI::IsMember({"table", "csv"}));
  command->add_option("--variants", arguments->variants, "Only variants whose name or tag contains a match.")
      ->type_name("REGEX");
  command->callback([arguments] { run_list(*arguments); });
}

ATTN_COMMAND(10, add_list);

}  // namespace
}  // namespace attn
