// The micro-kernel under linear and moe_experts: the sums of a few rows against one panel, kept in registers
// through all of K.
//
// Inputs are prepared once per call as blocks of up to kBlockRows rows, interleaved: a block of R rows is
// [steps][R] words of 4 bytes, one word being what one multiply-add of a row broadcasts: an f32, or a pair of
// bf16 for cores that multiply pairs. So a tile reads its inputs as one stream, whatever their width.
//
// A Core is one instruction set's arithmetic for one weight type (cores_avx2.h and so on):
//   Sums, Weights    16 lanes of f32, and of weights ready to multiply
//   kSteps           multiply-adds of a column per line of its panel
//   kPairs           a step takes two k, as a pair of bf16, instead of one f32
//   kMaxRows         rows whose sums fit in registers, for 32 columns
//   kHalvesApart     registers hold the weights of 16 columns at a time: inputs are broadcast twice
//   zero, weights, broadcast, multiply_add, store
// All code here is a template over a Core, and Cores live in anonymous namespaces, so that no linker mixes up
// instruction sets.
#pragma once

#include <cstdint>

#include "kernels/linear/packed_weight.h"

namespace lockstep {

// Rows of a block. 12 rows against 32 columns make 24 sums of 16 lanes, which leaves AVX-512's 32 registers
// enough for a line of weights and the broadcasts; 14 loads feed 24 multiply-adds.
inline constexpr int64_t kBlockRows = 12;

inline constexpr int64_t kLineBytes = 128;

// T rows cut evenly into the fewest blocks.
struct RowBlocks {
  int64_t rows;
  [[gnu::always_inline]] int64_t count() const { return (rows + kBlockRows - 1) / kBlockRows; }
  [[gnu::always_inline]] int64_t begin(int64_t block) const { return rows * block / count(); }
};

// One panel against the rows of one block.
struct BlockSums {
  const char* panel = nullptr;       // [lines] lines of 128 bytes
  const uint32_t* inputs = nullptr;  // [steps][rows]
  int64_t rows = 0;                  // of the block
  int64_t lines = 0;
  float* sums = nullptr;  // [rows][stride]
  int64_t stride = kPanelColumns;
};

// Asks for the weights and inputs that are to come. How far ahead, and whether for both cache lines of a
// line, was measured on Zen 4 with weights in memory (GB/s of one core, 35 at most, against the other
// choice): up to 5 rows wait for memory, and its own prefetchers do best when hinted at sparingly (4 rows: 30
// against 22); from 6 rows on arithmetic takes as long, and every line must be on its way early (8 rows: 28
// against 18). Inputs pass through the first-level cache once per panel and are asked for too (8 rows: 28
// against 26).
template <int R>
[[gnu::always_inline]] inline void prefetch(const char* line, const uint32_t* inputs) {
  constexpr int kFirstCache = 3, kSecondCache = 2;
  if constexpr (R <= 5) {
    __builtin_prefetch(line + 32 * kLineBytes, 0, kSecondCache);
  } else {
    __builtin_prefetch(line + 128 * kLineBytes, 0, kSecondCache);
    __builtin_prefetch(line + 128 * kLineBytes + 64, 0, kSecondCache);
  }
  __builtin_prefetch(inputs + 8 * R, 0, kFirstCache);
}

template <typename Core, int R>
[[gnu::always_inline]] inline void add_products(typename Core::Sums (&sums)[R],
                                                typename Core::Weights weights, const uint32_t* inputs) {
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) sums[r] = Core::multiply_add(sums[r], weights, Core::broadcast(inputs + r));
}

// The products of R rows of the block, from `row` on: one chain per output, ascending in k, whatever R is.
template <typename Core, int R>
void sum_rows(const BlockSums& block, int64_t row) {
  typename Core::Sums low[R], high[R];
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) low[r] = high[r] = Core::zero();
  const uint32_t* inputs = block.inputs + row;
  const int64_t stride = block.rows;
  const char* const end = block.panel + block.lines * kLineBytes;
  for (const char* line = block.panel; line < end; line += kLineBytes) {
    prefetch<R>(line, inputs);
#pragma GCC unroll 2
    for (int step = 0; step < Core::kSteps; ++step) {
      if constexpr (Core::kHalvesApart) {
        add_products<Core, R>(low, Core::weights(line, step), inputs);
        add_products<Core, R>(high, Core::weights(line + kLineBytes / 2, step), inputs);
      } else {
        const auto low_weights = Core::weights(line, step);
        const auto high_weights = Core::weights(line + kLineBytes / 2, step);
#pragma GCC unroll 16
        for (int r = 0; r < R; ++r) {
          const auto input = Core::broadcast(inputs + r);
          low[r] = Core::multiply_add(low[r], low_weights, input);
          high[r] = Core::multiply_add(high[r], high_weights, input);
        }
      }
      inputs += stride;
    }
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r) {
    float* sums = block.sums + (row + r) * block.stride;
    Core::store(sums, low[r]);
    Core::store(sums + kPanelColumns / 2, high[r]);
  }
}

template <typename Core, int R = Core::kMaxRows>
void sum_some_rows(int64_t rows, const BlockSums& block, int64_t row) {
  if (rows == R) return sum_rows<Core, R>(block, row);
  if constexpr (R > 1) sum_some_rows<Core, R - 1>(rows, block, row);
}

// sums[r][c] for every row of the block and column of the panel.
template <typename Core>
void sum_block(const BlockSums& block) {
  for (int64_t row = 0; row < block.rows; row += Core::kMaxRows) {
    const int64_t left = block.rows - row;
    sum_some_rows<Core>(left < Core::kMaxRows ? left : Core::kMaxRows, block, row);
  }
}

}  // namespace lockstep
