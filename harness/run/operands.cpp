#include "harness/run/operands.h"

namespace attn {
namespace {

using In = Inputs<float>;
using Out = Outputs<float>;

Operand input(const char* name, int64_t batch, int64_t seq, int64_t heads, int64_t width,
              std::vector<float> In::*member) {
  return {name, batch, seq, heads, width, false, member, nullptr};
}
Operand output(const char* name, int64_t batch, int64_t seq, int64_t heads, int64_t width,
               std::vector<float> Out::*member) {
  return {name, batch, seq, heads, width, false, nullptr, member};
}
Operand wide(Operand operand) {
  operand.wide = true;
  return operand;
}

}  // namespace

std::vector<Operand> input_operands(const Problem& p) {
  std::vector<Operand> list;
  if (p.scope == Scope::block) {
    const int64_t model = p.model_width();
    list.push_back(input("x", p.batch, p.seq_q, 1, model, &In::x));
    list.push_back(input("wq", 1, model, 1, p.heads_q * p.head_dim, &In::wq));
    list.push_back(input("wk", 1, model, 1, p.heads_kv * p.head_dim, &In::wk));
    list.push_back(input("wv", 1, model, 1, p.heads_kv * p.value_dim, &In::wv));
    list.push_back(input("wo", 1, p.heads_q * p.value_dim, 1, model, &In::wo));
  } else {
    list.push_back(input("q", p.batch, p.seq_q, p.heads_q, p.head_dim, &In::q));
    list.push_back(input("k", p.batch, p.seq_kv, p.heads_kv, p.head_dim, &In::k));
    list.push_back(input("v", p.batch, p.seq_kv, p.heads_kv, p.value_dim, &In::v));
  }
  const Position& position = p.position;
  const int64_t rows = position.shaw_rows();
  if (position.shaw()) list.push_back(wide(input("shaw_key", 1, rows, 1, p.head_dim, &In::shaw_key)));
  if (position.shaw_values())
    list.push_back(wide(input("shaw_value", 1, rows, 1, p.value_dim, &In::shaw_value)));
  if (position.t5()) list.push_back(wide(input("t5_bias", 1, position.buckets, 1, p.heads_q, &In::t5_bias)));
  if (p.pass == Pass::bwd) list.push_back(input("d_o", p.batch, p.seq_q, p.heads_q, p.value_dim, &In::d_o));
  return list;
}

std::vector<Operand> forward_results(const Problem& p) {
  const bool block = p.scope == Scope::block;
  return {
      output("o", p.batch, p.seq_q, block ? 1 : p.heads_q, block ? p.model_width() : p.value_dim, &Out::o),
      wide(output("lse", 1, p.batch * p.heads_q, 1, p.seq_q, &Out::lse))};
}

std::vector<Operand> gradients(const Problem& p) {
  std::vector<Operand> list = {output("d_q", p.batch, p.seq_q, p.heads_q, p.head_dim, &Out::d_q),
                               output("d_k", p.batch, p.seq_kv, p.heads_kv, p.head_dim, &Out::d_k),
                               output("d_v", p.batch, p.seq_kv, p.heads_kv, p.value_dim, &Out::d_v)};
  const Position& position = p.position;
  const int64_t rows = position.shaw_rows();
  if (position.shaw()) list.push_back(wide(output("d_shaw_key", 1, rows, 1, p.head_dim, &Out::d_shaw_key)));
  if (position.shaw_values()) {
    list.push_back(wide(output("d_shaw_value", 1, rows, 1, p.value_dim, &Out::d_shaw_value)));
  }
  if (position.t5())
    list.push_back(wide(output("d_t5_bias", 1, position.buckets, 1, p.heads_q, &Out::d_t5_bias)));
  return list;
}

size_t operand_bytes(const Problem& p) {
  size_t total = 0;
  for (const Operand& operand : input_operands(p)) total += operand.bytes(p.dtype);
  for (const Operand& operand : forward_results(p)) total += operand.bytes(p.dtype);
  if (p.pass == Pass::bwd) {
    for (const Operand& operand : gradients(p)) total += operand.bytes(p.dtype);
  }
  return total;
}

}  // namespace attn
