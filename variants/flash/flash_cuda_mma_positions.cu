// flash/cuda/mma (flash_cuda_mma.cu): RoPE and Shaw terms.

#include "variants/flash/flash_mma_positions.h"

#include "variants/flash/flash_mma_forward.cuh"

namespace attn {
namespace {

template <class T>
void enqueue(const CudaQueue& queue, const Problem& p, const Forward& args, const FlashMmaScratch& scratch) {
  if (p.position.rope()) return flash_mma_rotated<T>(queue, p, args, scratch);
  flash_mma_shaw<T>(queue, p, args, scratch);
}

}  // namespace

void enqueue_flash_mma_positions(void* stream, const Problem& p, const Forward& args,
                                 const FlashMmaScratch& scratch) {
  const CudaQueue queue(stream);
  if (p.dtype == Dtype::bf16) return enqueue<Bf16>(queue, p, args, scratch);
  enqueue<F16>(queue, p, args, scratch);
}

}  // namespace attn
