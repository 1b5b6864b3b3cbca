// The product through CBLAS, which OpenBLAS and BLIS share.

#include <cblas.h>

#include "harness/run/blas.h"

namespace attn {

void multiply(int64_t rows, int64_t columns, int64_t inner, const float* a, const float* b, float* c) {
  const auto m = static_cast<int>(rows), n = static_cast<int>(columns), k = static_cast<int>(inner);
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, m, n, k, 1.0f, a, k, b, n, 0.0f, c, n);
}

}  // namespace attn
