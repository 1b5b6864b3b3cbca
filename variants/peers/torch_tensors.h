#pragma once
// What the plug-ins of PyTorch share: tensors that borrow the harness's memory, and its exceptions.

#include <ATen/ops/from_blob.h>
#include <c10/core/InferenceMode.h>
#include <c10/util/Exception.h>

#include <new>

#include "variants/peers/peer.h"

namespace attn {

inline at::ScalarType torch_type(Dtype dtype) {
  if (dtype == Dtype::f32) return at::kFloat;
  return dtype == Dtype::bf16 ? at::kBFloat16 : at::kHalf;
}

/// The harness's memory as [batch, head, seq, width], the order of PyTorch. The device is named, so that
/// nobody has to ask the driver where the memory lies.
template <class Void>
at::Tensor borrow(const BasicTensor<Void>& tensor, const PeerProblem& p, int64_t heads, int64_t seq,
                  int64_t width, c10::Device device) {
  return at::for_blob(const_cast<void*>(static_cast<const void*>(tensor.data)), {p.batch, heads, seq, width})
      .strides({tensor.batch_stride, tensor.head_stride, tensor.seq_stride, 1})
      .options(at::TensorOptions(torch_type(p.dtype)).device(device))
      .target_device(device)
      .make_tensor();
}

inline at::Tensor borrow_lse(const float* lse, const PeerProblem& p, c10::Device device) {
  return at::for_blob(const_cast<float*>(lse), {p.batch, p.heads_q, p.seq_q})
      .options(at::TensorOptions(at::kFloat).device(device))
      .target_device(device)
      .make_tensor();
}

/// Runs `work`; what PyTorch throws loses its backtrace.
template <class Work>
void translated(Work work) {
  try {
    const c10::InferenceMode no_gradients;
    work();
  } catch (const c10::OutOfMemoryError&) {
    throw std::bad_alloc();
  } catch (const c10::Error& error) {
    throw std::runtime_error(error.what_without_backtrace());
  }
}

}  // namespace attn
