#include "harness/measure/gpu_roofs.h"

#include <deque>
#include <functional>

#include "harness/measure/roof_trials.h"

namespace attn {

GpuRoofs measure_gpu_roofs(DeviceApi& api, GpuRoofKernels& kernels) {
  struct Entry {
    double* result;
    Roof roof;
  };
  std::deque<Entry> entries;  // their roofs are pointed at
  const auto add = [&](double& result, const std::function<double()>& work) {
    // The first call is no trial: it loads code and wakes the device up.
    const bool can = work() > 0;
    api.synchronize();
    if (!can) return;
    entries.push_back({&result, Roof([&api, work](int64_t repeats) {
                         double amount = 0;
                         const double seconds = api.time_s(
                             repeats, [&] { amount += work(); }, [] {});
                         return RoofTrial{amount, seconds, seconds};
                       })});
  };
  GpuRoofs roofs;
  double launches_per_s = 0;
  add(roofs.gemm_bf16_flops_per_s, [&] { return kernels.product(Arithmetic::bf16); });
  add(roofs.gemm_f16_flops_per_s, [&] { return kernels.product(Arithmetic::f16); });
  add(roofs.gemm_tf32_flops_per_s, [&] { return kernels.product(Arithmetic::tf32); });
  add(roofs.gemm_f32_flops_per_s, [&] { return kernels.product(Arithmetic::f32); });
  add(roofs.fma_f32_flops_per_s, [&] { return kernels.multiply_adds(); });
  add(roofs.read_bytes_per_s, [&] { return kernels.read(); });
  add(roofs.copy_bytes_per_s, [&] { return kernels.copy(); });
  add(roofs.ex2_approx_per_s, [&] { return kernels.ex2_approx(); });
  add(roofs.exp2f_per_s, [&] { return kernels.exp2f(); });
  add(launches_per_s, [&] { return kernels.launch(); });
  std::vector<Roof*> all;
  for (Entry& entry : entries) all.push_back(&entry.roof);
  try_in_turns(all);
  for (const Entry& entry : entries) *entry.result = entry.roof.best();
  if (launches_per_s > 0) roofs.launch_s = 1 / launches_per_s;
  return roofs;
}

GpuRoofs measure_gpu_roofs(DeviceApi& api) {
  GpuRoofs roofs = measure_gpu_roofs(api, *detail::make_gpu_roof_kernels(api));
  roofs.memory_bytes = static_cast<double>(gpu_facts().memory_bytes);
  return roofs;
}

}  // namespace attn
