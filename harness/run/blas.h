#pragma once
// The BLAS that a block's projections run on, chosen when building (CMake's ATTN_BLAS).

#include <cstdint>
#include <string>

namespace attn {

/// As the library says itself.
struct Blas {
  std::string name;     ///< "OpenBLAS", "BLIS", "Eigen's products"
  std::string version;  ///< "0.3.21"
  std::string kernels;  ///< the instruction set or CPU that its kernels are for
};
Blas describe_blas();

/// Whether set_blas_threads takes that number.
bool blas_takes(int threads);
/// For the products that follow. Throws std::runtime_error where the library uses another number, as one
/// built without threads does.
void set_blas_threads(int threads);

/// c[rows, columns] = a[rows, inner] b[inner, columns]; row-major, contiguous.
void multiply(int64_t rows, int64_t columns, int64_t inner, const float* a, const float* b, float* c);

namespace detail {  // harness/run/blas_openblas.cpp, blas_blis.cpp or blas_eigen.cpp
void request_blas_threads(int threads);
int blas_threads();
}  // namespace detail

}  // namespace attn
