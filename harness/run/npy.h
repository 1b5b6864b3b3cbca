#pragma once
// NumPy's .npy files, versions 1 and 2: little-endian float32 and float64, C order.
// Format: numpy.lib.format in NumPy's documentation.

#include <cstdint>
#include <string>
#include <vector>

namespace attn {

template <class Real>
struct NpyArray {
  std::vector<int64_t> shape;  ///< empty: one number
  std::vector<Real> values;
};

/// Real is float (float32 files only: nothing is rounded unasked) or double (float32 is widened). Throws
/// UsageError.
template <class Real>
NpyArray<Real> read_npy(const std::string& path);

/// Throws UsageError where the file cannot be created, std::runtime_error where it cannot be written whole.
template <class Real>
void write_npy(const std::string& path, const std::vector<int64_t>& shape, const std::vector<Real>& values);

/// "(2, 3)", as NumPy prints it.
std::string shape_text(const std::vector<int64_t>& shape);

}  // namespace attn
