// OpenBLAS's own functions, next to the CBLAS interface.

#include <cblas.h>

#include <sstream>

#include "harness/run/blas.h"

namespace attn {

Blas describe_blas() {
  Blas blas;
  std::istringstream line(openblas_get_config());  // "OpenBLAS 0.3.21 NO_LAPACK ..."
  line >> blas.name >> blas.version;
  blas.kernels = openblas_get_corename();
  return blas;
}

void detail::request_blas_threads(int threads) { openblas_set_num_threads(threads); }
int detail::blas_threads() { return openblas_get_num_threads(); }

}  // namespace attn
