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

template <class T>
FlashShawArgs enqueue_terms(const CudaQueue& queue, const Problem& p, const Forward& args,
                            const FlashMmaScratch& scratch) {
  const FlashShape shape = FlashShape::of(p, scratch.mask.rule(p));
  return scratch.shaw.fill<T>(queue, p, shape, gpu_tensor<const T>(args.q), args.tables);
}

}  // namespace

void enqueue_flash_mma_positions(void* stream, const Problem& p, const Forward& args,
                                 const FlashMmaScratch& scratch) {
  const CudaQueue queue(stream);
  if (p.dtype == Dtype::bf16) return enqueue<Bf16>(queue, p, args, scratch);
  enqueue<F16>(queue, p, args, scratch);
}

FlashShawArgs enqueue_shaw_terms(void* stream, const Problem& p, const Forward& args,
                                 const FlashMmaScratch& scratch) {
  const CudaQueue queue(stream);
  if (p.dtype == Dtype::bf16) return enqueue_terms<Bf16>(queue, p, args, scratch);
  return enqueue_terms<F16>(queue, p, args, scratch);
}

}  // namespace attn
