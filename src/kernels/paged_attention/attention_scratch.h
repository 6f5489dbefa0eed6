// How a thread's share of the attention workspace is cut up.
#pragma once

#include <cstdint>

#include "kernels/paged_attention/paged_attention.h"

namespace lockstep {

// Query vectors (row, head) that share a loaded block of one kv head. 64 of them make loading a block cost a
// few percent of the arithmetic on it.
inline constexpr int64_t kAttentionTile = 64;

// Lanes of the widest vector type. Every part of the scratch has a multiple of 16 elements, so that each
// begins on a 64-byte line and full vectors stay inside.
inline constexpr int64_t kAttentionLanes = 16;

struct AttentionScratch {
  float* block;        // keys [D, 64], then values [64, width]
  float* gathered;     // [64, width] of the cache's type: rows of a shuffled layout
  float* sums;         // [64, width]: weighted values of each query vector
  float* scores;       // [64, 64]: scores, then weights of each query vector
  float* totals;       // [64, 16]: sums of weights, per lane
  float* maxima;       // [64]: largest score so far
  float* corrections;  // [64]: what sums of earlier blocks are multiplied by

  [[gnu::always_inline]] static constexpr int64_t width(int64_t head_dim) {
    return (head_dim + kAttentionLanes - 1) / kAttentionLanes * kAttentionLanes;
  }
  // Elements of one thread.
  [[gnu::always_inline]] static constexpr int64_t floats(int64_t head_dim) {
    return 3 * kAttentionTile * width(head_dim) + kAttentionTile * kAttentionBlock +
           kAttentionTile * kAttentionLanes + 2 * kAttentionTile;
  }
  [[gnu::always_inline]] static AttentionScratch of(void* workspace, int64_t head_dim, int thread) {
    const int64_t row_block = kAttentionTile * width(head_dim);
    AttentionScratch scratch{};
    scratch.block = static_cast<float*>(workspace) + thread * floats(head_dim);
    scratch.gathered = scratch.block + row_block;
    scratch.sums = scratch.gathered + row_block;
    scratch.scores = scratch.sums + row_block;
    scratch.totals = scratch.scores + kAttentionTile * kAttentionBlock;
    scratch.maxima = scratch.totals + kAttentionTile * kAttentionLanes;
    scratch.corrections = scratch.maxima + kAttentionTile;
    return scratch;
  }
};

static_assert(kAttentionTile == kAttentionBlock, "row_block serves tokens and query vectors");

}  // namespace lockstep
