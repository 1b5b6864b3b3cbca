#include "variants/peers/onnx_model.h"

#include <bit>

namespace attn {
namespace {

/// A protobuf message: fields of kinds 0 (varint), 2 (bytes) and 5 (four bytes).
class Message {
 public:
  Message& number(uint32_t field, int64_t value) {
    key(field, 0);
    varint(static_cast<uint64_t>(value));
    return *this;
  }
  Message& text(uint32_t field, const std::string& value) {
    key(field, 2);
    varint(value.size());
    bytes += value;
    return *this;
  }
  Message& real(uint32_t field, float value) {
    key(field, 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(bits >> shift & 0xff);
    return *this;
  }
  Message& message(uint32_t field, const Message& value) { return text(field, value.bytes); }

  std::string bytes;

 private:
  void key(uint32_t field, uint32_t kind) { varint(field << 3 | kind); }
  void varint(uint64_t value) {
    for (; value > 0x7f; value >>= 7) bytes += static_cast<char>(0x80 | (value & 0x7f));
    bytes += static_cast<char>(value);
  }
};

Message value_info(const OnnxTensor& tensor) {
  const Message type = Message().message(1, Message().number(1, tensor.type));  // TypeProto.tensor_type
  return Message().text(1, tensor.name).message(2, type);
}

Message node_proto(const OnnxNode& node) {
  constexpr int64_t kFloatAttribute = 1, kIntAttribute = 2;
  Message proto;
  for (const OnnxTensor& input : node.inputs) proto.text(1, input.name);
  for (const OnnxTensor& output : node.outputs) proto.text(2, output.name);
  proto.text(4, node.type).text(7, node.domain);
  for (const auto& [name, value] : node.integers) {
    proto.message(5, Message().text(1, name).number(3, value).number(20, kIntAttribute));
  }
  for (const auto& [name, value] : node.numbers) {
    proto.message(5, Message().text(1, name).real(2, value).number(20, kFloatAttribute));
  }
  return proto;
}

}  // namespace

std::string onnx_model(const OnnxNode& node) {
  constexpr int64_t kIrVersion = 9, kPlainOperators = 20;
  Message graph;
  graph.message(1, node_proto(node)).text(2, "attention");
  for (const OnnxTensor& input : node.inputs) {
    if (!input.name.empty()) graph.message(11, value_info(input));
  }
  for (const OnnxTensor& output : node.outputs) graph.message(12, value_info(output));
  Message model;
  model.number(1, kIrVersion).message(7, graph);
  model.message(8, Message().text(1, "").number(2, kPlainOperators));
  model.message(8, Message().text(1, node.domain).number(2, node.version));
  return model.bytes;
}

}  // namespace attn
