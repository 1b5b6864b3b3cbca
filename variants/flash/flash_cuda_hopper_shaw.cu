// flash/cuda/hopper (flash_cuda_hopper.cu): Shaw's key terms, bf16 and f16.

#include "variants/flash/flash_hopper_forward.cuh"
#include "variants/flash/flash_hopper_top.h"
#include "variants/flash/flash_mma_positions.h"

namespace attn {
namespace {

template <class T>
void enqueue(const CudaQueue& queue, const Problem& p, const Forward& forward, const HopperScratch& scratch) {
  FlashHopperArgs<T> args = hopper_device_args<T>(queue, p, forward, scratch, scratch.tiles);
  args.shaw = enqueue_shaw_terms(queue.stream(), p, forward, scratch);
  launch_hopper<T, HopperKind::shaw, HopperTopRung>(queue, args, scratch.tiles);
}

}  // namespace

void hopper_forward_shaw(const Context& context, const Problem& p, const Forward& forward,
                         const HopperScratch& scratch) {
  if (!hopper_strides(p, forward)) return enqueue_flash_mma_positions(context.stream, p, forward, scratch);
  const CudaQueue queue(context.stream);
  if (p.dtype == Dtype::bf16) return enqueue<Bf16>(queue, p, forward, scratch);
  enqueue<F16>(queue, p, forward, scratch);
}

}  // namespace attn
