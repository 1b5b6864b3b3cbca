#pragma once
// Storage types of the tensors. Arithmetic is the variant's business; the oracle is always float64 on the
// rounded values.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace attn {

enum class Dtype { f32, bf16, f16 };

Dtype parse_dtype(std::string_view text);  // throws UsageError
std::string to_text(Dtype dtype);
constexpr size_t bytes_of(Dtype dtype) { return dtype == Dtype::f32 ? 4 : 2; }
/// Distance from 1 to the next larger number of the type.
double epsilon_of(Dtype dtype);

/// `value` rounded to the type (nearest even), as a float.
float round_to(Dtype dtype, float value);
/// Reads or writes one element of the type at `data[index]`.
float load(Dtype dtype, const void* data, int64_t index);
void store(Dtype dtype, void* data, int64_t index, float value);
/// The same for `count` elements from `data[index]` on.
void load(Dtype dtype, const void* data, int64_t index, int64_t count, float* values);
void store(Dtype dtype, void* data, int64_t index, int64_t count, const float* values);

}  // namespace attn
