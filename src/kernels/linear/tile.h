// The micro-kernel under linear and moe_experts: sums of a few rows against a few panels, kept in registers
// through all of K.
//
// Inputs are prepared once per call as blocks of up to kBlockRows rows, interleaved: a block of R rows is
// [steps][R] words of 4 bytes, one word being what one multiply-add of a row broadcasts: an f32, or a pair of
// bf16 for cores that multiply pairs. So a tile reads its inputs as one stream, whatever their width.
//
// A Core is one instruction set's arithmetic for one weight type (cores_avx2.h and so on):
//   Sums, Weights              16 lanes of f32, and of weights ready to multiply
//   kSteps                     multiply-adds per 64-byte line
//   kPairs                     a step takes two k, as a pair of bf16, instead of one f32
//   kMaxRows, max_panels(R)    what fits in registers
//   zero, weights, broadcast, multiply_add, store
// All code here is a template over a Core, and Cores live in anonymous namespaces, so that no linker mixes up
// instruction sets.
#pragma once

#include <cstdint>

#include "kernels/linear/packed_weight.h"

namespace lockstep {

// Rows of a block. 12 rows against 2 panels make 24 sums of 16 lanes, which leaves AVX-512's 32 registers
// enough for 2 lines of weights and the broadcasts; 7 loads feed each 12 multiply-adds.
inline constexpr int64_t kBlockRows = 12;

// Columns that one walk over a block's inputs may sum: 8 panels.
inline constexpr int64_t kSumColumns = 128;

// Lines that a tile asks for ahead of their use: 2 KiB per panel, in time for memory at 20 GB/s a core, and
// short enough that 4 panels at once keep to a quarter of a 32 KiB first-level cache.
inline constexpr int64_t kPrefetchLines = 32;

inline constexpr int64_t kLineBytes = 64;

// T rows cut evenly into the fewest blocks.
struct RowBlocks {
  int64_t rows;
  [[gnu::always_inline]] int64_t count() const { return (rows + kBlockRows - 1) / kBlockRows; }
  [[gnu::always_inline]] int64_t begin(int64_t block) const { return rows * block / count(); }
};

// What one micro-kernel call reads and writes.
template <int P>
struct Tile {
  const char* panels[P] = {};        // each [lines] lines of 64 bytes
  const uint32_t* inputs = nullptr;  // [steps][stride], at the tile's first row
  int64_t stride = 0;                // rows of the block
  int64_t lines = 0;
  int64_t ahead = 0;  // bytes from a panel's beginning to that of the panel read after it; for prefetching
  float* sums = nullptr;  // [R][kSumColumns], at the tile's first column
};

// sums[r] = the R rows' products with the P panels: one chain per output, ascending in k, whatever R and P.
template <typename Core, int R, int P>
void sum_tile(const Tile<P>& tile) {
  typename Core::Sums sums[R][P];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) sums[r][p] = Core::zero();
  }
  const char* panels[P];
#pragma GCC unroll 4
  for (int p = 0; p < P; ++p) panels[p] = tile.panels[p];
  const uint32_t* inputs = tile.inputs;
  // The last lines ask for the beginning of the next panel.
  const int64_t turn = tile.lines > kPrefetchLines ? tile.lines - kPrefetchLines : 0;
  int64_t line = 0;
  for (int half = 0; half < 2; ++half) {
    const int64_t end = half == 0 ? turn : tile.lines;
    const int64_t shift =
        half == 0 ? kPrefetchLines * kLineBytes : tile.ahead + (kPrefetchLines - tile.lines) * kLineBytes;
    for (; line < end; ++line) {
      const int64_t at = line * kLineBytes;
#pragma GCC unroll 4
      for (int p = 0; p < P; ++p) __builtin_prefetch(panels[p] + at + shift);
#pragma GCC unroll 2
      for (int step = 0; step < Core::kSteps; ++step) {
        typename Core::Weights weights[P];
#pragma GCC unroll 4
        for (int p = 0; p < P; ++p) weights[p] = Core::weights(panels[p] + at, step);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const auto input = Core::broadcast(inputs + r);
#pragma GCC unroll 4
          for (int p = 0; p < P; ++p) sums[r][p] = Core::multiply_add(sums[r][p], weights[p], input);
        }
        inputs += tile.stride;
      }
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 4
    for (int p = 0; p < P; ++p) Core::store(tile.sums + r * kSumColumns + p * kPanelColumns, sums[r][p]);
  }
}

// The products of one block with up to 8 panels.
struct BlockSums {
  const char* panels[kSumColumns / kPanelColumns] = {};
  int count = 0;                     // panels
  const uint32_t* inputs = nullptr;  // [steps][rows]
  int64_t rows = 0;                  // of the block
  int64_t lines = 0;
  int64_t ahead = 0;      // as in Tile
  float* sums = nullptr;  // [rows][kSumColumns]
};

template <typename Core, int R, int P>
void sum_tile_at(const BlockSums& block, int64_t row, int panel) {
  Tile<P> tile{.inputs = block.inputs + row,
               .stride = block.rows,
               .lines = block.lines,
               .ahead = block.ahead,
               .sums = block.sums + row * kSumColumns + panel * kPanelColumns};
  for (int p = 0; p < P; ++p) tile.panels[p] = block.panels[panel + p];
  sum_tile<Core, R, P>(tile);
}

// R rows from `row` on against all panels of the block, as many at a time as registers hold.
template <typename Core, int R>
void sum_rows(const BlockSums& block, int64_t row) {
  constexpr int kWidest = Core::max_panels(R);
  int panel = 0;
  if constexpr (kWidest >= 4) {
    for (; panel + 4 <= block.count; panel += 4) sum_tile_at<Core, R, 4>(block, row, panel);
  }
  if constexpr (kWidest >= 2) {
    for (; panel + 2 <= block.count; panel += 2) sum_tile_at<Core, R, 2>(block, row, panel);
  }
  for (; panel < block.count; ++panel) sum_tile_at<Core, R, 1>(block, row, panel);
}

template <typename Core, int R = Core::kMaxRows>
void sum_rows_of(int64_t rows, const BlockSums& block, int64_t row) {
  if (rows == R) return sum_rows<Core, R>(block, row);
  if constexpr (R > 1) sum_rows_of<Core, R - 1>(rows, block, row);
}

// sums[r][16 p ...] for every row and panel of the block.
template <typename Core>
void sum_block(const BlockSums& block) {
  for (int64_t row = 0; row < block.rows; row += Core::kMaxRows) {
    const int64_t left = block.rows - row;
    sum_rows_of<Core>(left < Core::kMaxRows ? left : Core::kMaxRows, block, row);
  }
}

}  // namespace lockstep
