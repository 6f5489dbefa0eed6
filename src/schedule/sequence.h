// Sequence: what the engine knows of a request while it runs.
#pragma once

#include <cstdint>
#include <vector>

#include "base/units.h"
#include "plan/plan_builder.h"

namespace lockstep {

// Prompt and generated tokens, how many of them are cached, and what the sequence holds. Owned by the engine;
// the scheduler changes it.
struct Sequence {
  uint64_t id = 0;              // counts arrivals: the smaller came first
  std::vector<TokenId> tokens;  // prompt, then what was generated; 0 for one that a step has still to draw
  int32_t prompt_len = 0;
  std::vector<TokenId> forced;  // what follows the prompt, instead of what is drawn
  int32_t longest = 0;          // tokens with which it ends at the latest; 0: nobody knows
  SamplingFacts sampling;
  bool has_penalties = false;

  int32_t computed = 0;  // tokens whose keys, values and states are cached
  bool running = false;  // holds a table row, and what goes with it
  TableRow table_row;
  std::vector<std::vector<PageId>> pages;  // by paged group, in order; as many of each
  StateSlot state_slot;
  PenaltySlot penalty_slot = PenaltySlot(-1);
  Epoch sampled_epoch;       // the step that sampled the last token; 0: none, or it is not the last any more
  int32_t sampled_row = -1;  // its logits row there
  Epoch last_step;           // the last step that it took part in
  int32_t preemptions = 0;   // how often it lost everything and began again

  int32_t length() const { return static_cast<int32_t>(tokens.size()); }
  int32_t held_pages() const { return pages.empty() ? 0 : static_cast<int32_t>(pages.front().size()); }
  int32_t pending() const { return length() - computed; }
  bool complete() const { return longest > 0 && length() >= longest; }
};

}  // namespace lockstep
