// How a thread's share of the attention workspace is cut up.
#pragma once

#include <cstdint>

#include "kernels/paged_attention/paged_attention.h"

namespace lockstep {

// Query vectors (row, head) that share a loaded block of one kv head. 64 of them make loading a block cost a
// few percent of the arithmetic on it.
inline constexpr int64_t kAttentionTile = 64;

// f32 elements of one thread's scratch. Every part begins on a 64-byte line because its size is a multiple of
// 16 elements.
constexpr int64_t attention_scratch_floats(int64_t head_dim) {
  const int64_t width = (head_dim + 15) / 16 * 16;
  const int64_t block = kAttentionBlock * width;            // keys [D, 64] or values [64, D] in f32
  const int64_t gathered = block;                           // rows of a shuffled layout
  const int64_t sums = kAttentionTile * width;              // weighted values
  const int64_t scores = kAttentionTile * kAttentionBlock;  // scores, then weights
  const int64_t totals = kAttentionTile * 16;               // sums of weights, per lane
  const int64_t rows = 2 * kAttentionTile;                  // maximum and correction
  return block + gathered + sums + scores + totals + rows;
}

}  // namespace lockstep
