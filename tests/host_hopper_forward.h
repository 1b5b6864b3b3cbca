#pragma once
// Forwards of the Hopper kernels on the host: arguments as the launch makes them, over modelled tensor maps.

#include "tests/host_sm90.h"
// kernels come behind their instructions
#include "tests/host_forward.h"
#include "variants/flash/flash_hopper_args.cuh"

namespace attn {

struct HostHopperLaunch {
  HostRun how;
  int blocks = 2;  ///< of a persistent kernel; two are at work at a time
};
template <class Body>
void launch_on_host(const Body& body, const HostHopperLaunch& launch) {
  const auto count = static_cast<int>(body.args.schedule.count());
  HostLaunch::run(body, Body::kPersistent ? std::min(count, launch.blocks) : count, 2, launch.how);
}

/// `maps` outlives the launch.
template <class T>
FlashHopperArgs<T> host_hopper_args(HostTensorMaps& maps, const Problem& p, const Forward& forward,
                                    const HopperScratch& scratch, const HopperTiles& tiles) {
  REQUIRE(hopper_strides(p, forward));
  return hopper_args<T>(
      HostQueue(), p, forward, scratch,
      [&](const auto& tensor, const TensorShape& shape, int rows, int heads) {
        return maps.add(host_tensor_map(const_cast<void*>(static_cast<const void*>(tensor.data)),
                                        tensor_box(tensor, shape, rows, heads)));
      },
      tiles);
}

}  // namespace attn
