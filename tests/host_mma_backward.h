#pragma once
// A backward of the mma rung on the host, behind the rung's own forward.

#include "tests/host_backward.h"
#include "variants/flash/flash_mma_forward.cuh"

namespace attn {

/// backward(queue, args, scratch): tensors of T; Scratch is what it takes from the workspace.
template <class T, class Scratch, class RunBackward>
Outputs<float> run_mma_backward(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                                const HostLayout& layout, RunBackward backward) {
  const HostQueue queue(schedule);
  HostWorkspace before([&](Workspace& counting) { FlashMmaScratch::take(p, counting); });
  HostWorkspace after([&](Workspace& counting) { Scratch::take(p, counting); });
  FlashMmaScratch::take(p, before.granting).prepare(queue, p);
  Scratch::take(p, after.granting).prepare(queue, p);
  before.granting.rewind();
  after.granting.rewind();
  return run_backward<T>(
      p, inputs, layout,
      [&](const Forward& args) {
        flash_mma_forward<T>(queue, p, args, FlashMmaScratch::take(p, before.granting));
      },
      [&](const Backward& args) { backward(queue, args, Scratch::take(p, after.granting)); });
}

}  // namespace attn
