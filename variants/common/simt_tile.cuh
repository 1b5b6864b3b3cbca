#pragma once
// Products of float32 tiles in shared memory without tensor cores. Threads form groups of 16 lanes: group g
// owns rows g, g + kGroups, ..; lane t owns columns t, t + 16, .. of a product of two tiles, and channels
// 4t + 64c .. 4t + 64c + 3 of a weighted sum of rows. Four numbers are read at a time; where rows are a
// multiple of 64 floats and 4 more long, the 8 addresses of a quarter warp lie in different banks.

#include "variants/common/gpu_tensor.cuh"

namespace attn {

inline constexpr int kSimtLanes = 16;

template <int kThreads>
struct SimtTile {
  static constexpr int kGroups = kThreads / kSimtLanes;

  ATTN_DEVICE static int row_of(int thread, int r) { return thread / kSimtLanes + kGroups * r; }
  ATTN_DEVICE static int column_of(int thread, int k) { return thread % kSimtLanes + kSimtLanes * k; }

  /// One row into shared memory, zero from `width` to the next multiple of 4; `source` null: zeros. Called by
  /// all lanes of a group.
  template <class Block>
  ATTN_DEVICE static void load_row(Block& block, int lane, const float* source, int width, bool aligned,
                                   float* row) {
    const int padded = (width + 3) / 4 * 4;
    if (source && aligned) {
      for (int c = 4 * lane; c < padded; c += 4 * kSimtLanes) {
        block.copy(reinterpret_cast<Float4*>(row + c), reinterpret_cast<const Float4*>(source + c));
      }
      return;
    }
    for (int c = lane; c < padded; c += kSimtLanes) {
      if (source && c < width) {
        block.copy(row + c, source + c);
      } else {
        row[c] = 0;
      }
    }
  }

  /// product[r][k] = the thread's row r of `rows` times its column k, a row of `columns`.
  template <int kStride, int kRows, int kColumns>
  ATTN_DEVICE static void multiply(int thread, const float* rows, const float* columns, int width,
                                   float (&product)[kRows][kColumns]) {
    ATTN_UNROLL
    for (int r = 0; r < kRows; ++r) {
      ATTN_UNROLL
      for (int k = 0; k < kColumns; ++k) product[r][k] = 0;
    }
    for (int c = 0; c < width; c += 4) {
      Float4 column[kColumns];
      ATTN_UNROLL
      for (int k = 0; k < kColumns; ++k) {
        column[k] = *reinterpret_cast<const Float4*>(columns + column_of(thread, k) * kStride + c);
      }
      ATTN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const Float4 row = *reinterpret_cast<const Float4*>(rows + row_of(thread, r) * kStride + c);
        ATTN_UNROLL
        for (int k = 0; k < kColumns; ++k) {
          product[r][k] += row.x * column[k].x;
          product[r][k] += row.y * column[k].y;
          product[r][k] += row.z * column[k].z;
          product[r][k] += row.w * column[k].w;
        }
      }
    }
  }

  /// Sums += four weights of each row times four rows of `values`, from the lane's first channel on. kSelect
  /// leaves zero weights out.
  template <bool kSelect, int kStride, int kRows, int kSums>
  ATTN_DEVICE static void add_products(const Float4 (&weight)[kRows], const float* values,
                                       float (&sums)[kRows][kSums]) {
    ATTN_UNROLL
    for (int key = 0; key < 4; ++key) {
      ATTN_UNROLL
      for (int chunk = 0; chunk < kSums / 4; ++chunk) {
        const Float4 value = *reinterpret_cast<const Float4*>(values + key * kStride + 64 * chunk);
        ATTN_UNROLL
        for (int r = 0; r < kRows; ++r) {
          const float p = key == 0   ? weight[r].x
                          : key == 1 ? weight[r].y
                          : key == 2 ? weight[r].z
                                     : weight[r].w;
          if (kSelect && p == 0) continue;
          float* to = sums[r] + 4 * chunk;
          to[0] += p * value.x;
          to[1] += p * value.y;
          to[2] += p * value.z;
          to[3] += p * value.w;
        }
      }
    }
  }

  /// Sums += weights [rows, kColumns] times the rows of `values` [kColumns, channels].
  template <bool kSelect, int kColumns, int kWeightStride, int kStride, int kRows, int kSums>
  ATTN_DEVICE static void add_weighted(int thread, const float* weights, const float* values,
                                       float (&sums)[kRows][kSums]) {
    for (int key = 0; key < kColumns; key += 4) {
      Float4 weight[kRows];
      ATTN_UNROLL
      for (int r = 0; r < kRows; ++r) {
        weight[r] = *reinterpret_cast<const Float4*>(weights + row_of(thread, r) * kWeightStride + key);
      }
      add_products<kSelect, kStride>(weight, values + key * kStride + 4 * (thread % kSimtLanes), sums);
    }
  }
};

}  // namespace attn
