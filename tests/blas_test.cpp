// The BLAS of the block scope: its products, and that it works on as many threads as it is told.

#include "harness/run/blas.h"

#include <filesystem>
#include <iterator>
#include <vector>

#include "tests/catch.h"

using namespace attn;

namespace {

auto tasks_of_this_process() {
  return std::distance(std::filesystem::directory_iterator("/proc/self/task"), {});
}

void multiply_large() {
  constexpr int64_t kSize = 512;
  const std::vector<float> a(kSize * kSize, 1.0f), b = a;
  std::vector<float> c(a.size());
  multiply(kSize, kSize, kSize, a.data(), b.data(), c.data());
}

}  // namespace

TEST_CASE("the BLAS says what it is") {
  const Blas blas = describe_blas();
  CHECK((blas.name == "OpenBLAS" || blas.name == "BLIS" || blas.name == "Eigen's products"));
  CHECK(blas.version.find('.') != std::string::npos);
  CHECK(!blas.kernels.empty());
}

TEST_CASE("a product is row-major") {
  const std::vector<float> a = {1, 2, 3, 4, 5, 6}, b = {1, 10, 2, 20, 3, 30};
  std::vector<float> c(4, -1.0f);  // [2, 3] [3, 2]
  multiply(2, 2, 3, a.data(), b.data(), c.data());
  CHECK(c == std::vector<float>{14, 140, 32, 320});
}

// GNU's OpenMP keeps the threads that it once started.
TEST_CASE("a product uses the threads it is told to") {
  const auto before = tasks_of_this_process();
  set_blas_threads(1);
  multiply_large();
  CHECK(tasks_of_this_process() == before);
  set_blas_threads(3);
  multiply_large();
  CHECK(tasks_of_this_process() == before + 2);
}

TEST_CASE("a number of threads that the BLAS does not take is an error") {
  if (describe_blas().name != "OpenBLAS") return;  // the others take any
  CHECK_THROWS_AS(set_blas_threads(100000), std::runtime_error);
}
