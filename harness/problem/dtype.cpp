#include "harness/problem/dtype.h"

#include <algorithm>
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

// By hand, because clang has _Float16 on x86-64 only from version 15 on. Rounds to nearest even.
constexpr uint32_t kF16Exponent = 0x1fu << 23;  // above it a half has infinity and NaN
constexpr uint32_t kF16Rebias = uint32_t{127 - 15} << 23;

uint16_t to_f16_bits(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const auto sign = static_cast<uint16_t>(bits >> 16 & 0x8000u);
  const uint32_t magnitude = bits & 0x7fffffffu;
  const auto with_sign = [&](uint32_t half) { return static_cast<uint16_t>(sign | half); };
  if (magnitude > 0x7f800000u) return with_sign(0x7e00u);
  if (magnitude >= std::bit_cast<uint32_t>(65520.0f)) return with_sign(0x7c00u);
  if (magnitude < std::bit_cast<uint32_t>(0x1p-14f)) {  // subnormal: 0.5f ends at the same place, 2^-24
    const float aligned = std::bit_cast<float>(magnitude) + 0.5f;
    return with_sign(std::bit_cast<uint32_t>(aligned) - std::bit_cast<uint32_t>(0.5f));
  }
  return with_sign((magnitude - kF16Rebias + 0xfffu + (magnitude >> 13 & 1u)) >> 13);
}

float from_f16_bits(uint16_t half) {
  const uint32_t sign = uint32_t{half & 0x8000u} << 16, magnitude = uint32_t{half & 0x7fffu} << 13;
  if (magnitude >= kF16Exponent) return std::bit_cast<float>(sign | 0x7f800000u | (magnitude & 0x7fffffu));
  return std::bit_cast<float>(sign | magnitude) * 0x1p112f;  // exact, subnormal or not
}

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
  float value;
  load(dtype, data, index, 1, &value);
  return value;
}

void store(Dtype dtype, void* data, int64_t index, float value) { store(dtype, data, index, 1, &value); }

void load(Dtype dtype, const void* data, int64_t index, int64_t count, float* values) {
  if (dtype == Dtype::f32) {
    std::copy_n(static_cast<const float*>(data) + index, count, values);
    return;
  }
  const uint16_t* const bits = static_cast<const uint16_t*>(data) + index;
  if (dtype == Dtype::bf16) {
    std::transform(bits, bits + count, values, from_bf16_bits);
  } else {
    std::transform(bits, bits + count, values, from_f16_bits);
  }
}

void store(Dtype dtype, void* data, int64_t index, int64_t count, const float* values) {
  if (dtype == Dtype::f32) {
    std::copy_n(values, count, static_cast<float*>(data) + index);
    return;
  }
  uint16_t* const bits = static_cast<uint16_t*>(data) + index;
  if (dtype == Dtype::bf16) {
    std::transform(values, values + count, bits, to_bf16_bits);
  } else {
    std::transform(values, values + count, bits, to_f16_bits);
  }
}

}  // namespace attn
