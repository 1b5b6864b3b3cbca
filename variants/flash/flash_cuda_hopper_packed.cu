// flash/cuda/hopper (flash_cuda_hopper.cu) for few queries of grouped heads, bf16 and f16, with a mask or
// without.
//
// Why: 17 to some hundreds of queries, as in chunked prefill and speculative decoding, are too many for
// flash/cuda/decode and leave most of a tile of 128 queries of one head empty, while all heads of a group
// wait for the same keys and values. Here they share the tile.
//
// Method: row r of a pack is query r / pack of its head r % pack (hopper_pack: a power of two that divides
// the group, at most 16). TMA packs: the heads are an axis of the tensors, so a box of [64 / pack queries,
// pack heads, 64 channels] brings such rows in this order, and leaves out queries that are not there; boxes
// of [16 / pack, pack, 64] store O. In the kernel a shift and a mask of the row's number give query and head,
// where the mask, the LSE and rows that are computed once more ask for them. The rest is the kernel of the
// kind `masked` with two warpgroups. Ainslie et al., "GQA", 2023; packed as in FlashAttention's later code.
//
// Where all rows of tiles together leave multiprocessors idle, the tiles of each are split among several
// thread blocks, also for heads without a group: each leaves O in float32, not divided, with its reference
// and sum, and a kernel merges them as flash/cuda/decode does (decode_merge.cuh). Dao et al.,
// "Flash-Decoding", 2023.
//
// Cost: a row of tiles for rows / pack queries of pack heads, so ceil(pack n / rows) of them instead of
// pack ceil(n / rows), each of which reads K and V once; a split writes and reads 4 dv bytes a row. Taken
// only where counting tiles and rounds says that it is clearly faster (hopper_best_tiles; a split is charged
// two tiles). Never measured: no GPU has run it yet.

#include "variants/flash/flash_hopper_forward.cuh"
#include "variants/flash/flash_hopper_top.h"

namespace attn {
namespace {

template <class T>
void enqueue(const CudaQueue& queue, const Problem& p, const Forward& forward, const HopperScratch& scratch) {
  const FlashHopperArgs<T> args = hopper_device_args<T>(queue, p, forward, scratch, scratch.tiles);
  launch_hopper<T, HopperKind::packed, HopperTopRung>(queue, args, scratch.tiles);
  hopper_merge<T>(queue, p, forward, scratch);
}

}  // namespace

void hopper_forward_packed(const Context& context, const Problem& p, const Forward& forward,
                           const HopperScratch& scratch) {
  const CudaQueue queue(context.stream);
  if (p.dtype == Dtype::bf16) return enqueue<Bf16>(queue, p, forward, scratch);
  enqueue<F16>(queue, p, forward, scratch);
}

}  // namespace attn
