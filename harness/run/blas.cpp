#include "harness/run/blas.h"

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

}  // namespace attn
