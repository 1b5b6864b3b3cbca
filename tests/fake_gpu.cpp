// A GPU that is not there, for runs of the whole program: stands in for harness/run/device_cuda.cu and the
// kernels of the roofs. Its variants compute on the host.

#include "harness/measure/gpu_roofs.h"
#include "harness/registry.h"
#include "tests/fake_device.h"

namespace attn {
namespace {

FakeDevice& fake() {
  static FakeDevice device(size_t{256} << 10);
  return device;
}

class Kernels final : public GpuRoofKernels {
 public:
  double multiply_adds() override { return does(6e9); }
  double product(Arithmetic arithmetic) override { return does(arithmetic == Arithmetic::f32 ? 5e9 : 1e11); }
  double read() override { return does(3e8); }
  double copy() override { return does(2e8); }
  double ex2_approx() override { return does(4e8); }
  double exp2f() override { return does(2e8); }
  double launch() override { return does(1); }

 private:
  /// In a millisecond, whatever the host takes for it.
  static double does(double amount) {
    fake().seconds_per_call = 1e-3;
    return amount;
  }
};

enum class Manner {
  good,
  allocates,
  loses_device,
  waits,        ///< for the stream
  elsewhere,    ///< none of its work is on the stream
  stale_scale,  ///< a kernel reads the scale from the host, after the call
};

class OnFakeGpu final : public Variant {
 public:
  OnFakeGpu(std::string name, Manner manner)
      : Variant({.name = std::move(name), .family = "fake", .device = Device::cuda}), manner_(manner) {}
  Support supports(const Problem& problem) const override { return reference().supports(problem); }
  void plan(const Context& context, const Problem& problem, Workspace& workspace) const override {
    reference().plan(context, problem, workspace);
  }
  Cost cost(const Problem& problem) const override { return reference().cost(problem); }
  void prepare(const Context& context, const Problem& problem, Workspace& workspace) const override {
    reference().prepare(context, problem, workspace);
  }
  void forward(const Context& context, const Problem& problem, const Forward& args,
               Workspace& workspace) const override {
    fake().seconds_per_call = 0;
    if (manner_ == Manner::allocates) DeviceBuffer(fake(), 4096);
    if (manner_ == Manner::loses_device) fake().is_lost = true;
    if (manner_ == Manner::waits) fake().synchronize();
    const auto kernel = [=, this, scratch = &workspace] {
      Problem scaled = problem;
      if (manner_ == Manner::stale_scale) scaled.scale = scale_on_host_;
      scratch->rewind();
      reference().forward(context, scaled, args, *scratch);
    };
    scale_on_host_ = problem.softmax_scale();
    if (manner_ == Manner::elsewhere) return kernel();
    fake().enqueue(kernel);
    scale_on_host_ = 0;
  }
  void backward(const Context& context, const Problem& problem, const Backward& args,
                Workspace& workspace) const override {
    fake().enqueue([=, scratch = &workspace] {
      scratch->rewind();
      reference().backward(context, problem, args, *scratch);
    });
  }

 private:
  static const Variant& reference() { return find_variant("reference/cpu"); }
  Manner manner_;
  mutable double scale_on_host_ = 0;
};

ATTN_REGISTER(std::make_unique<OnFakeGpu>("fake/cuda/allocates", Manner::allocates));
ATTN_REGISTER(std::make_unique<OnFakeGpu>("fake/cuda/good", Manner::good));
ATTN_REGISTER(std::make_unique<OnFakeGpu>("fake/cuda/loses", Manner::loses_device));
ATTN_REGISTER(std::make_unique<OnFakeGpu>("fake/cuda/same", Manner::good));
ATTN_REGISTER(std::make_unique<OnFakeGpu>("uncaptured/cuda/elsewhere", Manner::elsewhere));
ATTN_REGISTER(std::make_unique<OnFakeGpu>("uncaptured/cuda/stale", Manner::stale_scale));
ATTN_REGISTER(std::make_unique<OnFakeGpu>("uncaptured/cuda/waits", Manner::waits));

}  // namespace

namespace detail {

std::string cuda_missing() { return ""; }
DeviceApi& cuda_api() { return fake(); }
DeviceFacts cuda_facts() {
  return {.description = "Fake GPU",
          .bus_id = "0000:01:00.0",
          .memory_bytes = fake().capacity,
          .cache_bytes = fake().cache_bytes(),
          .multiprocessors = 2};
}
void cuda_release() {}
std::unique_ptr<GpuRoofKernels> make_gpu_roof_kernels(DeviceApi&) { return std::make_unique<Kernels>(); }

}  // namespace detail
}  // namespace attn
