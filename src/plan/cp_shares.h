// P9 between the ranks of a context-parallel group: their chunks together are the sequences, each token once.
#pragma once

#include <cstdint>
#include <span>

#include "base/fault.h"
#include "plan/fields.h"

namespace lockstep {

// What one rank holds of a step.
struct CpShare {
  int32_t rank = 0;
  std::span<const CpSegments> segments;  // [sequences]
  int32_t rows = 0;                      // of its forward pass, all live sequences together
};

// The sequences of the step, as all ranks know them: rows are positions [computed, seq_len) of each.
struct CpStep {
  Epoch epoch;
  std::span<const TokenCount> computed_lens;
  std::span<const TokenCount> seq_lens;
};

// Errors: kInternal (P9), naming the sequence, the position or chunk, and the ranks: a position that no rank
// or two ranks hold, chunks of a sequence whose lengths differ by more than one, a rank whose rows are not
// those of its chunks. Cost: O(sequences * ranks), no allocation, where the chunks stand in zigzag order.
Status check_cp_shares(std::span<const CpShare> shares, const CpStep& step);

class StepPlan;
// The same of the plans of all ranks of one step, in order of ranks, each valid by itself. Plans that share
// no rows, of which each rank runs all, are all right. Errors: as check_cp_shares; kInternal (P9) for a plan
// that stands in another rank's place.
Status check_cp_plans(std::span<const StepPlan> plans);

}  // namespace lockstep
