// Where the lists of select_blocks lie, and how one is filled in once its scores are known. Compiled once,
// for no instruction set: what is chosen does not depend on one.
#pragma once

#include <cstdint>

#include "kernels/block_selection/block_selection.h"

namespace lockstep {

// The list of one row and kv head.
struct BlockList {
  int64_t sequence = 0;
  int64_t row = 0;
  int64_t kv_head = 0;
  int64_t position = 0;  // of the row
  int64_t count = 0;     // entries
  int32_t* blocks = nullptr;
};

// Walks the lists of a worker's share. Writes what needs no score: counts, starts, lists that hold every
// block, entries that no list has.
class BlockLists {
 public:
  BlockLists(const SelectBlocksArgs& args, Worker worker);
  // The next list that scores decide. False: there is none left.
  bool next(BlockList& list);

 private:
  int64_t cost_of(int64_t position, int64_t count) const;
  int64_t length_of(int64_t position, int64_t prompt_len) const;
  void finish() const;

  const SelectBlocksArgs& args_;
  const Worker worker_;
  const int64_t kv_heads_;
  int64_t begin_ = 0, end_ = 0;  // of the share, in cost
  int64_t cost_ = 0;             // of the lists so far
  int64_t entries_ = 0;          // of the lists so far
  int64_t lists_ = 0;            // so far
  int64_t sequence_ = 0;
  int64_t row_ = 0;      // of the sequence
  int64_t kv_head_ = 0;  // of the row
};

// Fills in a list from the scores of the windows j < num_scores; `pooled` and `ranked` have room for a number
// per block of the sequence.
struct WindowScores {
  const float* scores;
  int64_t count;
  float* pooled;
  float* ranked;
};
void choose_blocks(const SelectBlocksArgs& args, const BlockList& list, const WindowScores& scores);

}  // namespace lockstep
