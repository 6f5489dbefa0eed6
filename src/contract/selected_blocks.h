// The derived fields of block-sparse attention: which blocks of keys each row of a step attends to. Made on
// the device by select_blocks (kernels/block_selection), inside the graph; read by sparse_attention. What a
// list's length must be follows from the plan alone, so it is held to the plan here; what is in it follows
// from keys.
#pragma once

#include "contract/derived.h"

namespace lockstep {

// Blocks of row t and kv head k, at entry t * kv_heads + k. 0: the row attends to all keys.
extern const DerivedSpec kSelectedCounts;
// Where the entries of each list begin: prefix sums of the counts.
extern const DerivedSpec kSelectedStarts;
// Blocks of SelectionLimits::block_tokens tokens, counted from the beginning of the row's sequence; ascending
// within a list, and none behind the row's own.
extern const DerivedSpec kSelectedBlocks;

// Length of the list of a row at `position` of a sequence whose prompt has `prompt_len` tokens: 0 where both
// prompt and position are below dense_len, else all blocks up to the row's own or the most there may be.
int32_t selected_count(const SelectionLimits& limits, int32_t position, int32_t prompt_len);

// All three, for whoever makes an executor.
std::span<const DerivedSpec* const> selected_block_fields();

}  // namespace lockstep
