// The most tokens that a rank dispatches must be one number on all ranks, or the exchange hangs, and must
// bound the batch, or it asserts. Ranks took 128 and 256 from their own settings. deepseek-ai/DeepEP#208,
// #165, sgl-project/sglang#28985.
#include <algorithm>

#include "contract/agreement.h"
#include "faults/entries.h"

namespace lockstep::faults {
namespace {

constexpr int64_t kOwnBatch[] = {128, 256};

Status start(int64_t first, int64_t second) {
  RankFacts ranks[] = {{.rank = 0}, {.rank = 1}};
  ranks[0].add(CapacityFact{.name = "dispatch_tokens", .value = first});
  ranks[1].add(CapacityFact{.name = "dispatch_tokens", .value = second});
  return agree(ranks, RankGroup::kData);
}

Status wrong() { return start(kOwnBatch[0], kOwnBatch[1]); }

Status twin() {
  const int64_t enough = std::max(kOwnBatch[0], kOwnBatch[1]);
  return start(enough, enough);
}

}  // namespace

const Entry kG12f = {
    .id = "G12f",
    .fault_class = 'g',
    .title = "ranks size the expert dispatch from their own batch",
    .thread = "deepseek-ai/DeepEP#208",
    .expect = {.moment = Moment::kGroup,
               .check = "G1",
               .field = "dispatch_tokens",
               .expected = "128, as on rank 0",
               .found = "256 on rank 1"},
    .wrong = wrong,
    .twin = twin,
};

}  // namespace lockstep::faults
