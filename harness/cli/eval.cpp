// attnbench eval: one variant, or the float64 oracle, on tensors from .npy files.

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <map>

#include "harness/cli/command.h"
#include "harness/cli/eval_files.h"
#include "harness/oracle/oracle.h"
#include "harness/problem/error.h"
#include "harness/registry.h"
#include "harness/run/binding.h"
#include "harness/run/npy.h"

namespace attn {
namespace {

constexpr const char* kTables[] = {"shaw_key", "shaw_value", "t5_bias"};

using Paths = std::map<std::string, std::string>;  // by operand

struct Options {
  std::string variant;
  std::string problem;
  Paths inputs, outputs;
  std::vector<std::string> tables, table_gradients;
  int threads = omp_get_max_threads();
};

/// Adds NAME=FILE pairs under their operands' names.
void add_tables(const std::vector<std::string>& pairs, const std::string& prefix, Paths& paths) {
  for (const std::string& pair : pairs) {
    const size_t equals = pair.find('=');
    const std::string name = pair.substr(0, equals);
    const bool known = std::find(std::begin(kTables), std::end(kTables), name) != std::end(kTables);
    if (!known || equals == std::string::npos || equals + 1 == pair.size()) {
      throw UsageError(fmt::format(
          "eval: table '{}' is not NAME=FILE with NAME one of shaw_key, shaw_value, t5_bias", pair));
    }
    if (!paths.emplace(prefix + name, pair.substr(equals + 1)).second) {
      throw UsageError(fmt::format("eval: table {} is given twice", name));
    }
  }
}

template <class Real>
std::vector<Real>& member(Inputs<Real>& in, const std::string& name) {
  const std::map<std::string, std::vector<Real>*> members = {{"q", &in.q},
                                                             {"k", &in.k},
                                                             {"v", &in.v},
                                                             {"d_o", &in.d_o},
                                                             {"shaw_key", &in.shaw_key},
                                                             {"x", &in.x},
                                                             {"wq", &in.wq},
                                                             {"wk", &in.wk},
                                                             {"wv", &in.wv},
                                                             {"shaw_value", &in.shaw_value},
                                                             {"wo", &in.wo},
                                                             {"t5_bias", &in.t5_bias}};
  return *members.at(name);
}

template <class Real>
const std::vector<Real>& member(const Outputs<Real>& out, const std::string& name) {
  const std::map<std::string, const std::vector<Real>*> members = {{"o", &out.o},
                                                                   {"lse", &out.lse},
                                                                   {"d_q", &out.d_q},
                                                                   {"d_k", &out.d_k},
                                                                   {"d_v", &out.d_v},
                                                                   {"d_shaw_key", &out.d_shaw_key},
                                                                   {"d_shaw_value", &out.d_shaw_value},
                                                                   {"d_t5_bias", &out.d_t5_bias}};
  return *members.at(name);
}

/// What the problem has to offer; throws where an output was asked for that it does not have.
std::vector<Operand> results_of(const Problem& problem, const Paths& wanted) {
  std::vector<Operand> results = forward_results(problem);
  if (problem.pass == Pass::bwd) {
    for (const Operand& gradient : gradients(problem)) results.push_back(gradient);
  }
  for (const auto& [name, path] : wanted) {
    const auto is_it = [&name = name](const Operand& result) { return name == result.name; };
    if (std::none_of(results.begin(), results.end(), is_it)) {
      throw UsageError(fmt::format("eval: the problem {} has no {}", problem.text(), option_of(name)));
    }
  }
  return results;
}

Outputs<float> compute(const Options& options, const Problem& problem, const Inputs<float>& inputs) {
  const Variant& variant = find_variant(options.variant);
  if (const Support support = support_of(variant, problem); !support) {
    throw UsageError(
        fmt::format("{} does not support {}: {}", options.variant, problem.text(), support.reason));
  }
  if (options.outputs.count("lse") && !variant.info().gives_lse) {
    throw UsageError(fmt::format("eval: {} gives no LSE", options.variant));
  }
  Binding binding(variant, problem, inputs, {.threads = options.threads});
  binding.run();
  return binding.outputs();
}

Outputs<double> compute(const Options& options, const Problem& problem, const Inputs<double>& inputs) {
  if (problem.dtype != Dtype::f32) throw UsageError("eval: the oracle computes in float64: leave dtype out");
  return solve(problem, inputs, options.threads);
}

template <class Real>
void evaluate(const Options& options) {
  std::map<std::string, NpyArray<Real>> arrays;
  Shapes shapes;
  for (const auto& [operand, path] : options.inputs) {
    shapes[operand] = arrays.emplace(operand, read_npy<Real>(path)).first->second.shape;
  }
  const Problem problem = problem_of(options.problem, shapes);
  check_shapes(problem, shapes);
  Inputs<Real> inputs;
  for (auto& [operand, array] : arrays) member(inputs, operand) = std::move(array.values);
  const std::vector<Operand> results = results_of(problem, options.outputs);
  const Outputs<Real> outputs = compute(options, problem, inputs);
  for (const Operand& result : results) {
    const auto wanted = options.outputs.find(result.name);
    if (wanted == options.outputs.end()) continue;
    write_npy<Real>(wanted->second, file_shape(result, problem), member(outputs, result.name));
  }
  fmt::print("{} {}\n", options.variant, problem.text());
}

void add_eval(CLI::App& app, int&) {
  CLI::App* command = app.add_subcommand("eval", "Computes attention on tensors from .npy files.");
  const auto options = std::make_shared<Options>();
  command
      ->add_option("--variant", options->variant,
                   "Name of a variant (float32 files), or oracle (float32 or float64).")
      ->required();
  command->add_option("--problem", options->problem,
                      "Canonical text; the fields that the files decide may be left out.");
  const auto add_files = [&](const auto& list, Paths& paths) {
    for (const FileOption& option : list) {
      const auto store = [&paths, operand = option.operand](const std::string& path) {
        paths[operand] = path;
      };
      command->add_option_function<std::string>(option.option, store, option.description)->type_name("FILE");
    }
  };
  add_files(kInputs, options->inputs);
  add_files(kOutputs, options->outputs);
  command
      ->add_option(
          "--table", options->tables,
          "Table of the position: shaw_key, shaw_value [2 K + 1, width] or t5_bias [buckets, heads_q].")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  command->add_option("--d-table", options->table_gradients, "Written: gradient of a table (with --do).")
      ->type_name("NAME=FILE")
      ->allow_extra_args(false);
  command->add_option("--threads", options->threads, "Number of CPU threads. Default: every CPU.")
      ->check(CLI::Range(1, 1024));
  command->callback([options] {
    add_tables(options->tables, "", options->inputs);
    add_tables(options->table_gradients, "d_", options->outputs);
    if (options->outputs.empty()) throw UsageError("eval: nothing to write: give --out FILE");
    options->variant == "oracle" ? evaluate<double>(*options) : evaluate<float>(*options);
  });
}

ATTN_COMMAND(40, add_eval);

}  // namespace
}  // namespace attn
