#pragma once
// A warp on the host (variants/common/warp.cuh): every step covers the 32 lanes in turn. ldmatrix and mma are
// modelled by the PTX ISA's words through variants/common/mma_layout.h; an address that a GPU would refuse,
// or that costs it bank conflicts, throws.

#include <cstring>
#include <stdexcept>
#include <vector>

#include "variants/common/warp.cuh"

namespace attn {

/// [16, 8] += [16, 16] [16, 8] on fragments, lane by lane. The products of a step are added up before they
/// meet the float32 sum; how a GPU rounds in between is not documented.
template <class T, class C>
void model_mma(const C& c, const Matrices* a, const Matrices* b, int half) {
  float a_values[16][16], b_values[16][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int e = 0; e < 8; ++e) {
      const Cell at = mma_a(lane, e);
      a_values[at.row][at.column] = to_float(half_of<T>(a[lane].of[e / 2], e % 2));
    }
    for (int e = 0; e < 4; ++e) {
      const Cell at = mma_b(lane, e);
      b_values[at.row][at.column] = to_float(half_of<T>(b[lane].of[2 * half + e / 2], e % 2));
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    float(&sums)[4] = c(lane);
    for (int e = 0; e < 4; ++e) {
      const Cell at = mma_c(lane, e);
      float product = 0;
      for (int k = 0; k < 16; ++k) product += a_values[at.row][k] * b_values[k][at.column];
      sums[e] += product;
    }
  }
}

/// [16, 8] += [16, 8] [8, 8] of tf32 numbers; what a register holds beyond tf32's bits is cut off.
template <class C>
void model_mma_tf32(const C& c, const Matrices* a, const Matrices* b, int half) {
  const auto number = [](uint32_t bits) {
    float value;
    bits &= ~0x1fffu;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  };
  float a_values[16][8], b_values[8][8];
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    for (int r = 0; r < 4; ++r) {
      const Cell at = mma_a_tf32(lane, r);
      a_values[at.row][at.column] = number(a[lane].of[r]);
    }
    for (int r = 0; r < 2; ++r) {
      const Cell at = mma_b_tf32(lane, r);
      b_values[at.row][at.column] = number(b[lane].of[2 * half + r]);
    }
  }
  for (int lane = 0; lane < kWarpLanes; ++lane) {
    float(&sums)[4] = c(lane);
    for (int e = 0; e < 4; ++e) {
      const Cell at = mma_c(lane, e);
      float product = 0;
      for (int k = 0; k < 8; ++k) product += a_values[at.row][k] * b_values[k][at.column];
      sums[e] += product;
    }
  }
}

/// address(lane) as ldmatrix.x4 takes it, out[lane] as it gives it.
template <class Address>
void model_ldmatrix(bool transposed, const Address& address, Matrices* out) {
  for (int matrix = 0; matrix < 4; ++matrix) {
    const uint16_t* rows[8];
    unsigned banks = 0;
    for (int row = 0; row < 8; ++row) {
      const auto at = reinterpret_cast<uintptr_t>(address(8 * matrix + row));
      if (at % 16 != 0) throw std::logic_error("ldmatrix: misaligned address");
      rows[row] = reinterpret_cast<const uint16_t*>(at);
      banks |= 1u << at / 16 % 8;
    }
    if (banks != 0xff) throw std::logic_error("ldmatrix: bank conflict");
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      uint32_t bits = 0;
      for (int half = 0; half < 2; ++half) {
        const Cell at = matrix_element(lane, half);
        const uint32_t element = transposed ? rows[at.column][at.row] : rows[at.row][at.column];
        bits |= element << (16 * half);
      }
      out[lane].of[matrix] = bits;
    }
  }
}

/// One 4-byte load of every lane after another.
template <class Address>
void model_load_words(const Address& address, Matrices* out) {
  for (int k = 0; k < 4; ++k) {
    uint32_t banks = 0;
    for (int lane = 0; lane < kWarpLanes; ++lane) {
      const auto at = reinterpret_cast<uintptr_t>(address(lane, k));
      if (at % 4 != 0) throw std::logic_error("load: misaligned address");
      banks |= 1u << at / 4 % 32;
      std::memcpy(&out[lane].of[k], address(lane, k), 4);
    }
    if (banks != ~0u) throw std::logic_error("load: bank conflict");
  }
}

template <class State>
class HostWarp {
 public:
  template <class T>
  struct Lanes {
    T values[kWarpLanes];
    const T& operator[](int lane) const { return values[lane]; }
  };

  HostWarp(State* states, int index) : states_(states), index_(index) {}

  int index() const { return index_; }
  template <class Step>
  void each(const Step& step) {
    for (int lane = 0; lane < kWarpLanes; ++lane) step(lane, states_[lane]);
  }
  template <class Step>
  auto make(const Step& step) {
    Lanes<decltype(step(0, states_[0]))> made;
    for (int lane = 0; lane < kWarpLanes; ++lane) made.values[lane] = step(lane, states_[lane]);
    return made;
  }
  void sync() {}
  bool any(bool State::*flag) {
    bool found = false;
    for (int lane = 0; lane < kWarpLanes; ++lane) found = found || states_[lane].*flag;
    return found;
  }

  template <class Combine, int lanes, int count>
  void reduce(float (State::*field)[count]) {
    for (int offset = lanes / 2; offset > 0; offset /= 2) {
      for (int k = 0; k < count; ++k) {
        float value[kWarpLanes];
        for (int lane = 0; lane < kWarpLanes; ++lane) value[lane] = (states_[lane].*field)[k];
        for (int lane = 0; lane < kWarpLanes; ++lane) {
          (states_[lane].*field)[k] = Combine::of(value[lane], value[lane ^ offset]);
        }
      }
    }
  }

  template <bool kTransposed, class T, class Start>
  Lanes<Matrices> load_matrices(const T* tile, const Start& start, int flip, int further) {
    if (flip * static_cast<int>(sizeof(T)) / 128 != 0) throw std::logic_error("ldmatrix: flipped too far");
    Lanes<Matrices> loaded;
    model_ldmatrix(
        kTransposed, [&](int lane) { return tile + (start(lane) ^ flip) + further; }, loaded.values);
    return loaded;
  }
  template <class Address>
  Lanes<Matrices> load_words(const Address& address) {
    Lanes<Matrices> loaded;
    model_load_words(address, loaded.values);
    return loaded;
  }
  template <class T>
  Lanes<MmaOperand<T>> operand(const Lanes<Matrices>& loaded) {
    Lanes<MmaOperand<T>> made;
    for (int lane = 0; lane < kWarpLanes; ++lane) made.values[lane] = operand_of<T>(loaded[lane]);
    return made;
  }
  template <class T, class C>
  void multiply(const C& c, const Lanes<MmaOperand<T>>& a, const Lanes<MmaOperand<T>>& b, int half) {
    const auto sums = [&](int lane) -> float(&)[4] { return c(states_[lane]); };
    if constexpr (std::is_same_v<T, float>) {
      Matrices a_big[kWarpLanes], a_small[kWarpLanes], b_big[kWarpLanes], b_small[kWarpLanes];
      for (int lane = 0; lane < kWarpLanes; ++lane) {
        a_big[lane] = a[lane].big;
        a_small[lane] = a[lane].small;
        b_big[lane] = b[lane].big;
        b_small[lane] = b[lane].small;
      }
      model_mma_tf32(sums, a_small, b_big, half);
      model_mma_tf32(sums, a_big, b_small, half);
      model_mma_tf32(sums, a_big, b_big, half);
    } else {
      model_mma<T>(sums, a.values, b.values, half);
    }
  }

 private:
  State* states_;
  int index_;
};

}  // namespace attn
