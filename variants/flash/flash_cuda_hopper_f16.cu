// flash/cuda/hopper (flash_cuda_hopper.cu): f16.

#include "variants/flash/flash_hopper_forward.cuh"
#include "variants/flash/flash_hopper_top.h"

namespace attn {

void hopper_forward_f16(const Context& context, const Problem& p, const Forward& forward,
                        const HopperScratch& scratch) {
  hopper_forward<F16, HopperTopRung>(context, p, forward, scratch);
}

}  // namespace attn
