#include "harness/run/cuda_graph.h"

#include <type_traits>
#include <vector>

#include "harness/run/cuda_check.h"

namespace attn {
namespace {

struct Destroy {
  void operator()(cudaGraph_t graph) const { cudaGraphDestroy(graph); }
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
using Recorded = std::unique_ptr<std::remove_pointer_t<cudaGraph_t>, Destroy>;
using Executable = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, Destroy>;

bool is_of_capture(cudaError_t status) {
  return status >= cudaErrorStreamCaptureUnsupported && status <= cudaErrorStreamCaptureWrongThread;
}

/// Begun and ended here alone, whatever `work` does: a stream left capturing takes no other work.
Recorded record(cudaStream_t stream, const std::function<void()>& work) {
  ATTN_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
  const std::string thrown = thrown_by(work);
  cudaGraph_t graph = nullptr;
  const cudaError_t ended = cudaStreamEndCapture(stream, &graph);
  Recorded recorded(graph);
  cudaGetLastError();  // a call that the capture refused has left its error
  if (ended != cudaSuccess && !is_of_capture(ended)) ATTN_CUDA_CHECK(ended);
  if (!thrown.empty()) throw CannotCapture(thrown);
  if (ended == cudaErrorStreamCaptureUnjoined) throw CannotCapture(kCapturesUnjoined);
  if (ended != cudaSuccess)
    throw CannotCapture(std::string(kCapturesForbidden) + ": " + cudaGetErrorName(ended));
  return recorded;
}

bool copies_from_pageable(cudaGraphNode_t node) {
  cudaMemcpy3DParms copy{};
  cudaPointerAttributes source{};
  const bool known = cudaGraphMemcpyNodeGetParams(node, &copy) == cudaSuccess && copy.srcPtr.ptr &&
                     cudaPointerGetAttributes(&source, copy.srcPtr.ptr) == cudaSuccess;
  cudaGetLastError();  // a copy to or from a symbol has no such parameters
  return known && source.type == cudaMemoryTypeUnregistered;
}

/// What would not be the same when the graph is launched.
void refuse_unrepeatable(cudaGraph_t graph) {
  size_t count = 0;
  ATTN_CUDA_CHECK(cudaGraphGetNodes(graph, nullptr, &count));
  if (count == 0) throw CannotCapture(kCapturesNothing);
  std::vector<cudaGraphNode_t> nodes(count);
  ATTN_CUDA_CHECK(cudaGraphGetNodes(graph, nodes.data(), &count));
  for (const cudaGraphNode_t node : nodes) {
    cudaGraphNodeType type{};
    ATTN_CUDA_CHECK(cudaGraphNodeGetType(node, &type));
    if (type == cudaGraphNodeTypeMemAlloc || type == cudaGraphNodeTypeMemFree)
      throw CannotCapture(kCapturesAllocation);
    if (type == cudaGraphNodeTypeMemcpy && copies_from_pageable(node)) throw CannotCapture(kCapturesPageable);
  }
}

class CudaGraph final : public DeviceGraph {
 public:
  CudaGraph(cudaGraph_t graph, cudaStream_t stream) : stream_(stream) {
    cudaGraphExec_t made = nullptr;
    ATTN_CUDA_CHECK(cudaGraphInstantiateWithFlags(&made, graph, 0));
    executable_.reset(made);
    ATTN_CUDA_CHECK(cudaGraphUpload(made, stream_));  // else the first launch would
  }
  ~CudaGraph() override { cudaStreamSynchronize(stream_); }  // a launch of it may still run

  void launch() override { ATTN_CUDA_CHECK(cudaGraphLaunch(executable_.get(), stream_)); }

 private:
  cudaStream_t stream_;
  Executable executable_;
};

}  // namespace

std::unique_ptr<DeviceGraph> capture_graph(cudaStream_t stream, const std::function<void()>& work) {
  const Recorded recorded = record(stream, work);
  refuse_unrepeatable(recorded.get());
  return std::make_unique<CudaGraph>(recorded.get(), stream);
}

}  // namespace attn
