#pragma once
// A model of one node, as the bytes of an ONNX ModelProto (onnx/onnx : onnx/onnx.proto), so that no protobuf
// library is needed.

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace attn {

struct OnnxTensor {
  std::string name;  ///< empty: an optional input that is left out
  int type;          ///< ONNXTensorElementDataType; the shape is left open
};

struct OnnxNode {
  std::string type;
  std::string domain;
  int version;  ///< of the domain's operators
  std::vector<OnnxTensor> inputs, outputs;
  std::vector<std::pair<std::string, int64_t>> integers;  ///< attributes
  std::vector<std::pair<std::string, float>> numbers;
};

std::string onnx_model(const OnnxNode& node);

}  // namespace attn
