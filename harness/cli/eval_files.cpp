#include "harness/cli/eval_files.h"

#include <fmt/format.h>

#include "harness/problem/error.h"
#include "harness/problem/text.h"
#include "harness/run/npy.h"

namespace attn {

std::string option_of(const std::string& operand) {
  for (const FileOption& option : kInputs) {
    if (operand == option.operand) return option.option;
  }
  for (const FileOption& option : kOutputs) {
    if (operand == option.operand) return option.option;
  }
  return operand.starts_with("d_") ? "--d-table " + operand.substr(2) : "--table " + operand;
}

std::vector<int64_t> file_shape(const Operand& operand, const Problem& problem) {
  const std::string name = operand.name;
  if (name == "lse") return {problem.batch, problem.heads_q, problem.seq_q};
  if (name == "x" || (name == "o" && problem.scope == Scope::block)) {
    return {operand.batch, operand.seq, operand.width};
  }
  const bool four = name == "q" || name == "k" || name == "v" || name == "o" || name == "d_q" ||
                    name == "d_k" || name == "d_v" || name == "d_o";
  if (four) return {operand.batch, operand.seq, operand.heads, operand.width};
  return {operand.seq, operand.width};
}

namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;

/// `text` with the fields it leaves out; where it has one already, the two must be equal.
std::string with_fields(std::string text, const Fields& fields) {
  std::map<std::string, std::string, std::less<>> given;
  if (!text.empty()) {
    for (const std::string_view item : split(text, ',')) {
      const size_t equals = std::min(item.find('='), item.size());
      given.emplace(item.substr(0, equals), item.substr(std::min(equals + 1, item.size())));
    }
  }
  for (const auto& [name, value] : fields) {
    const auto found = given.find(name);
    if (found == given.end()) {
      text += fmt::format("{}{}={}", text.empty() ? "" : ",", name, value);
    } else if (found->second != value) {
      throw UsageError(
          fmt::format("eval: the problem says {}={}, the files say {}={}", name, found->second, name, value));
    }
  }
  return text;
}

/// Shape of an operand's file, which must have `rank` axes.
const std::vector<int64_t>& shape_of(const Shapes& shapes, const char* operand, size_t rank) {
  const auto found = shapes.find(operand);
  if (found == shapes.end()) {
    throw UsageError(fmt::format(
        "eval: {} is missing: give --q --k --v, or --x --wq --wk --wv --wo for a block", option_of(operand)));
  }
  const std::vector<int64_t>& shape = found->second;
  if (shape.size() == rank) return shape;
  throw UsageError(fmt::format("eval: {} has shape {}, which is not {} axes", option_of(operand),
                               shape_text(shape), rank));
}

Fields core_fields(const Shapes& shapes) {
  const auto &q = shape_of(shapes, "q", 4), &k = shape_of(shapes, "k", 4), &v = shape_of(shapes, "v", 4);
  Fields fields;
  for (const auto& [name, extent] : {std::pair{"b", q[0]},
                                     {"hq", q[2]},
                                     {"hk", k[2]},
                                     {"nq", q[1]},
                                     {"nk", k[1]},
                                     {"d", q[3]},
                                     {"dv", v[3]}}) {
    fields.emplace_back(name, std::to_string(extent));
  }
  return fields;
}

/// The weights' widths are heads times width: hq comes from the text, and hk where it is not hq.
Fields block_fields(const Shapes& shapes, const std::string& text) {
  const auto& x = shape_of(shapes, "x", 3);
  Fields fields = {{"scope", "block"}};
  for (const auto& [name, extent] : {std::pair{"b", x[0]}, {"nq", x[1]}, {"nk", x[1]}, {"dm", x[2]}}) {
    fields.emplace_back(name, std::to_string(extent));
  }
  if (("," + text).find(",hq=") == std::string::npos) {
    throw UsageError("eval: the weights of a block do not tell its heads: give hq=HEADS in the problem");
  }
  const Problem heads = Problem::parse(with_fields(text, fields));
  const auto add_width = [&](const char* field, const char* weight, int64_t count) {
    const int64_t columns = shape_of(shapes, weight, 2)[1];
    if (columns % count != 0) {
      throw UsageError(fmt::format("eval: the {} columns of {} are not a multiple of {} heads", columns,
                                   option_of(weight), count));
    }
    fields.emplace_back(field, std::to_string(columns / count));
  };
  add_width("d", "wq", heads.heads_q);
  add_width("dv", "wv", heads.heads_kv);
  return fields;
}

}  // namespace

Problem problem_of(const std::string& text, const Shapes& shapes) {
  Fields fields = shapes.contains("x") ? block_fields(shapes, text) : core_fields(shapes);
  if (shapes.contains("d_o")) fields.emplace_back("pass", "bwd");
  return Problem::parse(with_fields(text, fields));
}

void check_shapes(const Problem& problem, Shapes shapes) {
  for (const Operand& operand : input_operands(problem)) {
    const std::vector<int64_t> shape = file_shape(operand, problem);
    const auto found = shapes.find(operand.name);
    if (found == shapes.end()) {
      throw UsageError(
          fmt::format("eval: the problem needs {}, of shape {}", option_of(operand.name), shape_text(shape)));
    }
    if (found->second != shape) {
      throw UsageError(fmt::format("eval: {} has shape {}, the problem needs {}", option_of(operand.name),
                                   shape_text(found->second), shape_text(shape)));
    }
    shapes.erase(found);
  }
  if (shapes.empty()) return;
  throw UsageError(fmt::format("eval: {} is not part of the problem {}", option_of(shapes.begin()->first),
                               problem.text()));
}

}  // namespace attn
