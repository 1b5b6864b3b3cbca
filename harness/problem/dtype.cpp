#include "harness/problem/dtype.h"

#include <bit>
#include <cmath>
#include <cstring>

#include "harness/problem/error.h"

namespace attn {
namespace {

uint16_t to_bf16_bits(float value) {
  uint32_t bits = std::bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u)
    return static_cast<uint16_t>((bits >> 16) | 0x40u);  // keep NaN a NaN
  bits += 0x7fffu + ((bits >> 16) & 1u);
  return static_cast<uint16_t>(bits >> 16);
}

float from_bf16_bits(uint16_t bits) { return std::bit_cast<float>(uint32_t{bits} << 16); }

// g++ 12 has _Float16 on x86-64 and AArch64; it rounds to nearest even.
uint16_t to_f16_bits(float value) { return std::bit_cast<uint16_t>(static_cast<_Float16>(value)); }
float from_f16_bits(uint16_t bits) { return static_cast<float>(std::bit_cast<_Float16>(bits)); }

}  // namespace

Dtype parse_dtype(std::string_view text) {
  if (text == "f32") return Dtype::f32;
  if (text == "bf16") return Dtype::bf16;
  if (text == "f16") return Dtype::f16;
  throw UsageError("dtype '" + std::string(text) + "' is unknown: use f32, bf16 or f16");
}

std::string to_text(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return "f32";
    case Dtype::bf16:
      return "bf16";
    case Dtype::f16:
      return "f16";
  }
  return "?";
}

double epsilon_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::f32:
      return 0x1p-23;
    case Dtype::bf16:
      return 0x1p-7;
    case Dtype::f16:
      return 0x1p-10;
  }
  return 0;
}

float round_to(Dtype dtype, float value) {
  switch (dtype) {
    case Dtype::f32:
      return value;
    case Dtype::bf16:
      return from_bf16_bits(to_bf16_bits(value));
    case Dtype::f16:
      return from_f16_bits(to_f16_bits(value));
  }
  return value;
}

float load(Dtype dtype, const void* data, int64_t index) {
  if (dtype == Dtype::f32) return static_cast<const float*>(data)[index];
  const uint16_t bits = static_cast<const uint16_t*>(data)[index];
  return dtype == Dtype::bf16 ? from_bf16_bits(bits) : from_f16_bits(bits);
}

void store(Dtype dtype, void* data, int64_t index, float value) {
  if (dtype == Dtype::f32) {
    static_cast<float*>(data)[index] = value;
  } else {
    static_cast<uint16_t*>(data)[index] = dtype == Dtype::bf16 ? to_bf16_bits(value) : to_f16_bits(value);
  }
}

}  // namespace attn
