#pragma once
// Measured limits of the GPU, each the best of several trials (roof_trials.h).
//
// A product of large matrices by cuBLAS stands for what the tensor cores can do, independent multiply-adds in
// registers for the other units. Memory is read and copied in amounts far beyond the cache.

#include <memory>
#include <nlohmann/json.hpp>

#include "harness/measure/roof_limits.h"
#include "harness/run/device.h"

namespace attn {

/// The units that a variant's products run on.
enum class Arithmetic { f32, tf32, tf32x3, bf16, f16 };
/// By the storage type; of float32 variants those with tf32 or tf32x3 in a tag or the name use tensor cores,
/// once or three times a product.
Arithmetic arithmetic_of(const Info& info, Dtype dtype);

/// 0: not known.
struct GpuRoofs {
  double fma_f32_flops_per_s = 0;  ///< 2 FLOPs per multiply-add
  double gemm_f32_flops_per_s = 0, gemm_tf32_flops_per_s = 0, gemm_bf16_flops_per_s = 0,
         gemm_f16_flops_per_s = 0;
  double read_bytes_per_s = 0;
  double copy_bytes_per_s = 0;  ///< bytes read plus bytes written
  double ex2_approx_per_s = 0;  ///< the instruction, on numbers in registers
  double exp2f_per_s = 0;       ///< the function, exact for subnormal numbers too
  double launch_s = 0;          ///< from one empty kernel to the next, all enqueued beforehand
  double memory_bytes = 0;

  RoofLimits limits(Arithmetic arithmetic) const;
};

/// What is measured, once per call: enqueued on the device's stream.
class GpuRoofKernels {
 public:
  virtual ~GpuRoofKernels() = default;
  /// Each returns how much it did, 0 where this build cannot: FLOPs, bytes, exponentials, launches.
  virtual double multiply_adds() = 0;
  virtual double product(Arithmetic arithmetic) = 0;
  virtual double read() = 0;
  virtual double copy() = 0;
  virtual double ex2_approx() = 0;
  virtual double exp2f() = 0;
  virtual double launch() = 0;
};

GpuRoofs measure_gpu_roofs(DeviceApi& api, GpuRoofKernels& kernels);
/// With the kernels of this build.
GpuRoofs measure_gpu_roofs(DeviceApi& api);

/// As environment.json holds them (roofs_json.cpp).
nlohmann::json to_json(const GpuRoofs& roofs);
GpuRoofs gpu_roofs_from_json(const nlohmann::json& json);

namespace detail {  // gpu_roof_kernels.cu, or its stand-in where there is no nvcc
std::unique_ptr<GpuRoofKernels> make_gpu_roof_kernels(DeviceApi& api);
}

}  // namespace attn
