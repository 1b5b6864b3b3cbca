#pragma once
// The Hopper rungs as variants. The lower ones, kept for comparison, are built for bf16 without bias and
// softcap.

#include "variants/flash/flash_hopper_forward.cuh"

namespace attn {

template <HopperRung kRung>
class FlashHopperRung final : public Variant {
 public:
  FlashHopperRung(const char* name, const char* citation)
      : Variant({.name = name,
                 .family = "dense",
                 .device = Device::cuda,
                 .tags = {"flash", "tiled", "tensor cores", "hopper"},
                 .citation = citation}) {}

  Support supports(const Problem& p) const override {
    if (p.dtype != Dtype::bf16) return {"bf16 only"};
    if (hopper_kind(p) > HopperKind::masked) return {"no bias, no Shaw terms, no softcap, no negative scale"};
    return hopper_supports(p);
  }
  void plan(const Context&, const Problem& p, Workspace& counting) const override { take(p, counting); }
  Cost cost(const Problem& p) const override {
    return hopper_cost(p, hopper_tiles_in_use<HopperOneRung<kRung>>(p));
  }
  void prepare(const Context& context, const Problem& p, Workspace& workspace) const override {
    take(p, workspace).prepare(CudaQueue(context.stream), p);
  }
  void forward(const Context& context, const Problem& p, const Forward& args,
               Workspace& workspace) const override {
    hopper_forward<Bf16, HopperOneRung<kRung>>(context, p, args, take(p, workspace));
  }

 private:
  static HopperScratch take(const Problem& p, Workspace& workspace) {
    return HopperScratch::take(p, workspace, hopper_tiles_in_use<HopperOneRung<kRung>>(p));
  }
};

}  // namespace attn
