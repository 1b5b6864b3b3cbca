#pragma once
// Index maps of the tensor-core instructions of sm_80: which lane holds which element, and where tiles lie in
// shared memory. Kernels address through these functions and the tests' model of the instructions
// computes through them, so what the tests prove is what the kernels do.
//
// PTX ISA, "Matrix Fragments for mma.m16n8k16", "for mma.m16n8k8" (tf32) and "ldmatrix".

#include "harness/problem/mask.h"

namespace attn {

inline constexpr int kWarpLanes = 32;

struct Cell {
  int row;
  int column;
};

/// Element 2 r + e of a lane is half e (0: the lower 16 bits) of its register r. A is [16, 16] in four
/// registers.
ATTN_HOST_DEVICE constexpr Cell mma_a(int lane, int element) {
  return {lane / 4 + element / 2 % 2 * 8, lane % 4 * 2 + element % 2 + element / 4 * 8};
}
/// B is [16, 8] in two registers.
ATTN_HOST_DEVICE constexpr Cell mma_b(int lane, int element) {
  return {lane % 4 * 2 + element % 2 + element / 2 * 8, lane / 4};
}
/// C and D are [16, 8] in four float32 registers.
ATTN_HOST_DEVICE constexpr Cell mma_c(int lane, int element) {
  return {lane / 4 + element / 2 * 8, lane % 4 * 2 + element % 2};
}

/// Of tf32 numbers a register holds one. A is [16, 8] in four registers, B [8, 8] in two, C as above.
ATTN_HOST_DEVICE constexpr Cell mma_a_tf32(int lane, int r) {
  return {lane / 4 + r % 2 * 8, lane % 4 + r / 2 * 4};
}
ATTN_HOST_DEVICE constexpr Cell mma_b_tf32(int lane, int r) { return {lane % 4 + r * 4, lane / 4}; }

/// ldmatrix.x4 loads four 8x8 matrices: lane l gives the address of row l % 8 of matrix l / 8, and receives
/// from each matrix the two elements of one register. Transposed, it receives the elements (column, row).
/// Two 16-bit elements are one float32: row lane / 4, column lane % 4 of an 8x4 matrix.
ATTN_HOST_DEVICE constexpr Cell matrix_element(int lane, int half) { return {lane / 4, lane % 4 * 2 + half}; }

/// A row of a tile in shared memory, and 16 bytes of it.
struct Chunk {
  int row;
  int chunk;
};
/// Four matrices that are one A, its rows being rows of the tile.
ATTN_HOST_DEVICE constexpr Chunk chunk_of_a(int lane) { return {lane % 16, lane / 16}; }
/// Four matrices that are two B side by side: the columns of B are rows of the tile (K in Q K^T).
ATTN_HOST_DEVICE constexpr Chunk chunk_of_b(int lane) { return {lane / 16 * 8 + lane % 8, lane / 8 % 2}; }
/// Transposed loads that are two B side by side: the rows of B are rows of the tile (V in P V).
ATTN_HOST_DEVICE constexpr Chunk chunk_of_b_transposed(int lane) { return {lane % 16, lane / 16}; }

/// Two results of S = Q K^T (16 queries, 16 keys) are, register by register, one A of P V: register r comes
/// from the elements first, first + 1 of one of them.
struct WeightPair {
  int tile;
  int first;
};
ATTN_HOST_DEVICE constexpr WeightPair weights_of_a(int r) { return {r / 2, r % 2 * 2}; }

/// In tf32 one result of S (16 queries, 8 keys) is one A of P V if column k of A, and row k of B, stand for
/// this key of the eight: then register r is an element that the lane holds already.
ATTN_HOST_DEVICE constexpr int key_of_tf32(int k) { return k % 4 * 2 + k / 4; }
ATTN_HOST_DEVICE constexpr int weight_of_a_tf32(int r) { return r % 2 * 2 + r / 2; }
/// Register r of such a B: a row of the tile, one of two chunks, and one of its four elements.
struct Word {
  int row;
  int chunk;
  int element;
};
ATTN_HOST_DEVICE constexpr Word word_of_b_tf32(int lane, int r) {
  const Cell at = mma_b_tf32(lane, r);
  return {key_of_tf32(at.row), at.column / 4, at.column % 4};
}

/// Where a chunk of a row lies. Rows are multiples of 128 bytes, so that 8 rows of one logical chunk, which
/// is what an ldmatrix reads at a time, would share 4 banks; exclusive-or spreads them over all 32.
ATTN_HOST_DEVICE constexpr int swizzle(int row, int chunk) { return chunk ^ (row & 7); }

}  // namespace attn
