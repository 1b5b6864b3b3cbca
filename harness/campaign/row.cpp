#include "harness/campaign/row.h"

#include <fmt/format.h>

#include "harness/measure/environment.h"
#include "harness/run/binding.h"
#include "harness/run/theory.h"

namespace attn {
namespace {

std::string escape_regex(const std::string& text) {
  std::string escaped;
  for (char c : text) {
    if (std::string_view(".+*?()[]{}|^$\\").find(c) != std::string_view::npos) escaped += '\\';
    escaped += c;
  }
  return escaped;
}

}  // namespace

std::string repro_command(const Job& job, const std::string& variant) {
  return fmt::format(
      "attnbench sweep --problem '{}' --variants '^{}$' --seed {} --threads {} --fill {} --budget {} "
      "--processes {}{}",
      job.problem, escape_regex(variant), job.seed, job.threads, to_text(job.fill), job.budget_s,
      job.processes, launch_option(job.launch));
}

ResultRow describe_skipped(const Job& job, const Problem& p, const Variant& variant) {
  const Info& info = variant.info();
  ResultRow row;
  row.campaign = job.campaign;
  row.point = job.point;
  row.variant = info.name;
  row.family = info.family;
  row.device = info.device == Device::cpu ? "cpu" : "cuda";
  if (info.device == Device::cuda) row.launch = to_text(job.launch);
  row.fidelity = info.fidelity == Fidelity::exact ? "exact" : "approximate";
  row.problem = job.problem;
  row.scope = p.scope == Scope::core ? "core" : "block";
  row.pass = p.pass == Pass::fwd ? "fwd" : "bwd";
  row.dtype = to_text(p.dtype);
  row.batch = p.batch;
  row.heads_q = p.heads_q;
  row.heads_kv = p.heads_kv;
  row.seq_q = p.seq_q;
  row.seq_kv = p.seq_kv;
  row.d_model = p.model_width();
  row.d_head = p.head_dim;
  row.d_value = p.value_dim;
  row.mask = p.mask.text();
  row.position = p.position.text();
  row.threads = job.threads;
  row.seed = static_cast<int64_t>(job.seed);
  row.node = node_name();
  return row;
}

ResultRow describe_row(const Job& job, const Problem& p, const Variant& variant) {
  ResultRow row = describe_skipped(job, p, variant);
  row.density = density(p);
  row.flops_useful = useful_flops(p);
  row.bytes_min = compulsory_bytes(p);
  const auto forecast = job.time_s_predicted.find(variant.info().name);
  if (forecast != job.time_s_predicted.end()) row.time_s_predicted = forecast->second;
  row.repro = repro_command(job, variant.info().name);
  return row;
}

}  // namespace attn
