// Eigen's product, where there is no BLAS. Its own threads are off in this project: bands of rows go to
// threads.

#include <Eigen/Core>
#include <algorithm>

#include "harness/run/blas.h"

namespace attn {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

int threads_in_use = 1;

}  // namespace

Blas describe_blas() {
  return {"Eigen's products",
          std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
              std::to_string(EIGEN_MINOR_VERSION),
          Eigen::SimdInstructionSetsInUse()};
}

void detail::request_blas_threads(int threads) { threads_in_use = threads; }
int detail::blas_threads() { return threads_in_use; }

void multiply(int64_t rows, int64_t columns, int64_t inner, const float* a, const float* b, float* c) {
  const Eigen::Map<const Matrix> right(b, inner, columns);
  const int64_t band = (rows + threads_in_use - 1) / threads_in_use;
#pragma omp parallel for schedule(static, 1) num_threads(threads_in_use)
  for (int64_t first = 0; first < rows; first += band) {
    const int64_t count = std::min(band, rows - first);
    const Eigen::Map<const Matrix> left(a + first * inner, count, inner);
    Eigen::Map<Matrix>(c + first * columns, count, columns).noalias() = left * right;
  }
}

}  // namespace attn
