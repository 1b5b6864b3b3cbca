#include "harness/run/blas.h"

#include <cblas.h>
#include <fmt/format.h>

#include <stdexcept>

namespace attn {

void set_blas_threads(int threads) {
  detail::request_blas_threads(threads);
  if (const int used = detail::blas_threads(); used != threads) {
    throw std::runtime_error(
        fmt::format("{} uses {} threads where {} were asked for", describe_blas().name, used, threads));
  }
}

void multiply(int64_t rows, int64_t columns, int64_t inner, const float* a, const float* b, float* c) {
  const auto m = static_cast<int>(rows), n = static_cast<int>(columns), k = static_cast<int>(inner);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, a, k, b, n, 0.0f, c, n);
}

}  // namespace attn
