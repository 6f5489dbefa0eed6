// How a thread's share of the workspace of select_blocks is cut up. Forced inline: the kernels of all
// instruction sets use it.
#pragma once

#include <cstdint>

#include "kernels/block_selection/block_selection.h"

namespace lockstep {

// Rows of compressed keys that are scored together.
inline constexpr int64_t kScoreRows = 64;

struct SelectScratch {
  float* turned;    // [D, 64]: a block of compressed keys
  float* products;  // [64, 64]: of each head of the group with each of them
  float* coarse;    // [64, windows]: products with K2, `stride` from head to head
  float* scores;    // [windows of K1]
  float* pooled;    // [blocks]
  float* ranked;    // [blocks]: copies, for the choice
  int64_t stride;

  // Whole groups of compressed keys for so many tokens; K1 has a window every 16 of them.
  [[gnu::always_inline]] static constexpr int64_t windows(int64_t tokens, int64_t every) {
    return (tokens / every + kScoreRows - 1) / kScoreRows * kScoreRows;
  }
  // Elements of one thread.
  [[gnu::always_inline]] static constexpr int64_t floats(int64_t head_dim, int64_t tokens) {
    return head_dim * kScoreRows + kMostGroupHeads * kScoreRows + kMostGroupHeads * windows(tokens, 64) +
           windows(tokens, 16) + 2 * windows(tokens, 64);
  }
  [[gnu::always_inline]] static SelectScratch of(void* workspace, int64_t head_dim, int64_t tokens,
                                                 int thread) {
    SelectScratch scratch{};
    scratch.stride = windows(tokens, 64);
    scratch.turned = static_cast<float*>(workspace) + thread * floats(head_dim, tokens);
    scratch.products = scratch.turned + head_dim * kScoreRows;
    scratch.coarse = scratch.products + kMostGroupHeads * kScoreRows;
    scratch.scores = scratch.coarse + kMostGroupHeads * scratch.stride;
    scratch.pooled = scratch.scores + windows(tokens, 16);
    scratch.ranked = scratch.pooled + scratch.stride;
    return scratch;
  }
};

}  // namespace lockstep
