// From the codes of a quantised matrix to numbers, exactly: the f32 value of the formula, rounded once where
// it is wanted in fewer bits.
//   fp8   W[n, k] = fp8(n, k) * scale_inv[n / block rows, k / block columns]       (multiplied, whatever its
//   name) awq   W[n, k] = (q - z) * s[k / group, n]     bits 4i..4i+3 of a word are output 8c +
//   {0,2,4,6,1,3,5,7}[i] gptq  W[n, k] = (q - z) * s[g(k), n]          bits 4i..4i+3 of a word of codes are
//   input 8r + i, of a word
//         of zero points output 8c + i; z is stored less one by some (modulo 16); g(k) = g_idx[k], else k /
//         group
// All products are one f32 multiplication.
#pragma once

#include <atomic>
#include <cstdint>
#include <vector>

#include "base/status.h"
#include "weights/stored_matrix.h"

namespace lockstep {

// Rows [row, + rows) and columns [column, + columns) of an expert's matrix.
struct BlockPlace {
  int64_t expert = 0;  // of a packed tensor
  int64_t row = 0;
  int64_t rows = 0;
  int64_t column = 0;
  int64_t columns = 0;
};

// What a block is made of, as it was read. Memory is kept from one block to the next.
struct QuantisedBlock {
  // Columns [begin, end) of the block share `group` of scales and zero points.
  struct Run {
    int64_t begin = 0;
    int64_t end = 0;
    int64_t group = 0;
  };
  StoredMatrix matrix;
  BlockPlace at;
  std::vector<uint8_t> codes;       // fp8: [rows, columns]
  std::vector<uint32_t> raw_words;  // awq: [columns, words of rows]; gptq: [words of columns, rows]
  std::vector<uint32_t> words;      // the same, turned
  std::vector<float> scales;        // fp8: [blocks of rows, blocks of columns]; int4: [groups, rows]
  std::vector<uint8_t> zeros;       // int4: [groups, rows]
  std::vector<Run> runs;            // of all columns
  std::vector<char> staging;        // of whatever is read to be converted
};

// The value of each of the 256 codes of FP8 E4M3 ("fn": no infinities, 448 the largest, 0x7F and 0xFF NaN).
const std::vector<float>& fp8_e4m3_values();

// Reads the bytes that a block is made of and no others, but for the rest of a word whose codes it shares.
// Errors: as Checkpoint::read; kInvalidArgument for a scale that is not finite or a group that there is not,
//         naming tensor and element. Cost: one read per run of bytes; `bytes_read` grows by what was read.
Status read_block(const Checkpoint& checkpoint, const StoredMatrix& matrix, const BlockPlace& at,
                  std::atomic<int64_t>& bytes_read, QuantisedBlock& block);

// Writes rows of the block, from row `first` of the matrix on, to `out`: dense [rows, columns] of f32, f16 or
// bf16, to which the f32 value is rounded once. Precondition: they lie in the block.
void dequantise(const QuantisedBlock& block, int64_t first, const TensorView& out);

}  // namespace lockstep
