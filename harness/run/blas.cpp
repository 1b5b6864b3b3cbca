#include "harness/run/blas.h"

#include <cblas.h>
#include <fmt/format.h>

#include <stdexcept>

namespace attn {

bool blas_takes(int threads) {
  detail::request_blas_threads(threads);
  return detail::blas_threads() == threads;
}

void set_blas_threads(int threads) {
  if (blas_takes(threads)) return;
  throw std::runtime_error(fmt::format("{} uses {} threads where {} were asked for", describe_blas().name,
                                       detail::blas_threads(), threads));
}

void multiply(int64_t rows, int64_t columns, int64_t inner, const float* a, const float* b, float* c) {
  const auto m = static_cast<int>(rows), n = static_cast<int>(columns), k = static_cast<int>(inner);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, a, k, b, n, 0.0f, c, n);
}

}  // namespace attn
