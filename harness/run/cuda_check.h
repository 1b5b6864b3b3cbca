#pragma once
// The one way to call CUDA: an error becomes an exception with expression, file, line and CUDA's own words.

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace attn {

inline void cuda_check(cudaError_t status, const char* expression, const char* file, int line) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // so that an error that is not sticky is not reported twice
  throw std::runtime_error(std::string(file) + ":" + std::to_string(line) + ": " + expression + ": " +
                           cudaGetErrorName(status) + ", " + cudaGetErrorString(status));
}

}  // namespace attn

#define ATTN_CUDA_CHECK(expression) ::attn::cuda_check((expression), #expression, __FILE__, __LINE__)
