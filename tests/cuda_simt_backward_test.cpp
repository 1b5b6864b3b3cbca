// flash/cuda/simt's backward on the host (tests/host_block.h), behind its own forward: against the float64
// oracle's gradients and their bounds, bitwise alike in every schedule.

#include "tests/host_backward.h"
#include "variants/flash/flash_simt_backward.cuh"

using namespace attn;

namespace {

Outputs<float> run_simt(const Problem& p, const Inputs<float>& inputs, HostSchedule schedule,
                        const HostLayout& layout) {
  const HostQueue queue(schedule);
  HostWorkspace before([&](Workspace& counting) { FlashScratch::take(p, counting); });
  HostWorkspace after([&](Workspace& counting) { FlashSimtBackwardScratch::take(p, counting); });
  FlashScratch::take(p, before.granting).prepare(queue, p);
  FlashSimtBackwardScratch::take(p, after.granting).prepare(queue, p);
  before.granting.rewind();
  after.granting.rewind();
  return run_backward<float>(
      p, inputs, layout,
      [&](const Forward& args) {
        flash_simt_forward(queue, p, args, FlashScratch::take(p, before.granting));
      },
      [&](const Backward& args) {
        flash_simt_backward(queue, p, args, FlashSimtBackwardScratch::take(p, after.granting));
      });
}

void check_simt(const std::string& text) { check_backward(text, run_simt); }

}  // namespace

TEST_CASE("flash/cuda/simt's backward on the host agrees with the oracle") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=65,nk=130,d=64,dv=64", "b=2,hq=2,hk=2,nq=3,nk=5,d=8,dv=12",
               "b=1,hq=2,hk=2,nq=130,nk=67,d=41,dv=70", "b=1,hq=1,nq=33,nk=31,d=130,dv=256",
               "b=1,hq=1,nq=1,nk=1,d=1,dv=1", "b=1,hq=3,hk=3,nq=2,nk=0,d=16,dv=16",
               "b=1,hq=1,nq=31,nk=32,d=128,dv=128", "b=1,hq=6,hk=2,nq=31,nk=33,d=16,dv=24");
  check_simt(shape);
  check_simt(shape + ",mask=causal");
  check_simt(shape + ",softcap=5,scale=-0.3");
}

TEST_CASE("flash/cuda/simt's backward on the host: every fill") {
  const std::string shape =
      GENERATE("b=1,hq=2,hk=1,nq=40,nk=70,d=64", "b=1,hq=1,nq=40,nk=70,d=80,mask=causal",
               "b=1,hq=1,nq=20,nk=40,d=200,pos=alibi", "b=1,hq=2,nq=65,nk=40,d=3,mask=window:9:4,softcap=3");
  check_backward(shape, run_simt, all_fills(), {HostLayout{true, 8}});
}

TEST_CASE("flash/cuda/simt's backward on the host: masks") {
  const std::string shape =
      GENERATE("b=2,hq=2,hk=1,nq=90,nk=150,d=20,dv=33,mask=", "b=2,hq=1,hk=1,nq=70,nk=90,d=72,dv=128,mask=",
               "b=2,hq=1,hk=1,nq=40,nk=70,d=129,dv=8,mask=");
  check_simt(shape + GENERATE("causal:topleft", "window:9:4", "padding:33/0", "padding:50%",
                              "causal+window:30:*+padding:64/70"));
}

TEST_CASE("flash/cuda/simt's backward on the host: rows and tiles without pairs, block masks") {
  check_simt(std::string("b=1,hq=1,nq=300,nk=66,d=20,dv=20,mask=") + GENERATE("causal", "window:3:3"));
  check_simt("b=1,hq=1,nq=66,nk=300,d=20,dv=20,mask=causal:topleft");
  const BlockFile odd("24 40 4 4\n0 2\n1 3\n\n0 1 2 3\n");
  check_simt("b=1,hq=2,hk=1,nq=90,nk=150,d=20,dv=20,mask=blocks:" + odd.path);
  check_simt("b=1,hq=1,nq=90,nk=150,d=20,dv=200,mask=causal+padding:97+blocks:" + odd.path);
}

TEST_CASE("flash/cuda/simt's backward on the host: documents") {
  check_simt(std::string("b=2,hq=2,hk=1,nq=100,mask=") + GENERATE("document:70/3", "causal+document:33/64") +
             GENERATE(",d=20", ",d=72,pos=shaw:5", ",d=130"));
}

TEST_CASE("flash/cuda/simt's backward on the host: positions") {
  const std::string position =
      GENERATE("alibi", "t5:8:20", "t5-causal:8:20", "t5:32:128", "rope:10000", "rope-interleaved:100",
               "shaw:0", "shaw:3", "shaw-keys:5", "shaw:40", "shaw:500");
  check_simt("b=1,hq=3,hk=1,nq=90,nk=200,d=20,dv=24,pos=" + position);
  check_simt("b=2,hq=2,hk=2,nq=130,nk=70,d=21,dv=9,mask=causal+window:40:*,pos=" + position);
  check_simt("b=1,hq=1,nq=66,nk=100,d=70,dv=12,softcap=3,mask=padding:77,pos=" + position);
  check_simt("b=1,hq=1,nq=40,nk=100,d=64,dv=130,pos=" + position);
}
