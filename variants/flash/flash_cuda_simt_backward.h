#pragma once
// flash/cuda/simt's backward: what the variant calls for pass = bwd. Its kernels are compiled by themselves.

#include "harness/variant.h"

namespace attn {

struct FlashCudaSimtBackward {
  static Support supports(const Problem& problem);
  static void plan(const Problem& problem, Workspace& counting);
  static Cost cost(const Problem& problem);
  static void prepare(const Context& context, const Problem& problem, Workspace& workspace);
  static void run(const Context& context, const Problem& problem, const Backward& args, Workspace& workspace);
};

}  // namespace attn
